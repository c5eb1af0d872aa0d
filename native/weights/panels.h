// Matrices in panels: the CPU's order of kMatrix and kGateUp (tensor.h). Files hold packed int8 and
// int4 weights in it, for every device. A panel of kGateUp is 16 gate rows and
// the 16 up rows of the same columns of the output.
//
// A panel holds 32 rows of a weight [N, K], read by the GEMM as 32 columns of the output:
//   f32    float[K][32]
//   bf16   uint16[ceil(K/2)][32][2]: two consecutive k of one row side by side, so that one
//          512-bit load holds 16 rows and two k: a shift by 16 gives the f32 of the even k, a mask
//          the f32 of the odd one
//   int8   ceil(K/128) blocks (quantise.h), each of 4160 bytes:
//            uint8[32 quads][32 rows][4 k]  q + 128: one 512-bit load is 16 rows by 4
//                                           consecutive k, the operand of vpdpbusd; 16 of them at a
//                                           stride of 128 bytes are one tile of AMX (16 quads x 16
//                                           rows)
//            uint16[32 rows]                scale, bf16
//   int4   ceil(K/128) blocks, each of 2176 bytes:
//            uint8[16 pairs][32 rows][4 k]  low halves are quad 2 * pair, high halves quad
//                                           2 * pair + 1; a half h stands for
//                                           (h - zero) * multiplier[j], j = k / 32 within the block
//            uint16[32 rows]                scale, bf16 with four significant bits; bit j of
//                                           the low four bits says that zero is 7 (q = 7 - h,
//                                           multiplier[j] < 0), not 8 (q = h - 8)
//            uint16[32 rows]                |multiplier[j]| in the bits from 4 j on
// Rows past N, and k past K, are zero (the quantised ones as q = 0). Scales lie behind their
// values, so that a decode step reads one range from its beginning to its end.
#pragma once

#include "quantise.h"
#include "tensor.h"

namespace moepp {

constexpr int64_t kPanelRows = 32;
// output columns of one gate-up panel: 16 gate rows, then 16 up rows
constexpr int64_t kGateUpColumns = kPanelRows / 2;

// The name of the int8 and int4 layouts above, for files that hold packed weights. It changes with
// them.
constexpr const char* kPackedLayoutName = "panels32-i8g128-i4g32x128-v1";

// Bytes of one block of an int8 or int4 panel: values; scales; multipliers.
constexpr int64_t kInt8Values = kPanelRows * kQuantBlock, kInt4Values = kInt8Values / 2;
constexpr int64_t kInt8BlockBytes = kInt8Values + kPanelRows * 2,
                  kInt4BlockBytes = kInt4Values + kPanelRows * 4;

constexpr uint16_t kInt4ScaleMask = 0xfff0;  // of an int4 row's scale and flags: the scale

static inline int64_t block_bytes(DType dtype) {
  return dtype == DType::kI8 ? kInt8BlockBytes : kInt4BlockBytes;
}

static inline int64_t panel_bytes(DType dtype, int64_t k) {
  return is_quantised(dtype)    ? quant_blocks(k) * block_bytes(dtype)
         : dtype == DType::kF32 ? k * kPanelRows * 4
                                : (k + 1) / 2 * kPanelRows * 4;
}

static inline int64_t panel_count(Layout layout, int64_t rows) {
  return layout == Layout::kGateUp ? (rows / 2 + kGateUpColumns - 1) / kGateUpColumns
                                   : (rows + kPanelRows - 1) / kPanelRows;
}

// The weight's row that stands at place `lane` of panel `panel`, or -1 for padding.
static inline int64_t panel_row(Layout layout, int64_t rows, int64_t panel, int64_t lane) {
  if (layout != Layout::kGateUp) {
    const int64_t row = panel * kPanelRows + lane;
    return row < rows ? row : -1;
  }
  const int64_t columns = rows / 2;
  const int64_t column = panel * kGateUpColumns + lane % kGateUpColumns;
  return column >= columns ? -1 : lane < kGateUpColumns ? column : columns + column;
}

// Index of element [lane, k] within its f32 or bf16 panel, in elements.
static inline int64_t panel_index(DType dtype, int64_t lane, int64_t k) {
  return dtype == DType::kF32 ? k * kPanelRows + lane : (k / 2 * kPanelRows + lane) * 2 + k % 2;
}

// Element [lane, k] of an int8 or int4 panel. Exact: at most 15 significant bits.
static inline float quantised_element(DType dtype, const unsigned char* panel, int64_t lane,
                                      int64_t k) {
  const unsigned char* block = panel + k / kQuantBlock * block_bytes(dtype);
  const int64_t at = k % kQuantBlock, quad = at / 4;
  uint16_t scale, multipliers;
  if (dtype == DType::kI8) {
    std::memcpy(&scale, block + kInt8Values + 2 * lane, 2);
    return static_cast<float>(block[(quad * kPanelRows + lane) * 4 + at % 4] - 128) *
           bf16_to_f32(scale);
  }
  std::memcpy(&scale, block + kInt4Values + 2 * lane, 2);
  std::memcpy(&multipliers, block + kInt4Values + 2 * (kPanelRows + lane), 2);
  const int64_t group = at / kInt4Group;
  const int byte = block[(quad / 2 * kPanelRows + lane) * 4 + at % 4],
            half = quad % 2 == 0 ? byte & 15 : byte >> 4;
  const int zero = 8 - (scale >> group & 1), multiplier = multipliers >> (4 * group) & 15;
  return static_cast<float>((half - zero) * multiplier) * bf16_to_f32(scale & kInt4ScaleMask);
}

}  // namespace moepp
