// The layout of a weight [N, O, I] (or [O, I]: N = 1) in a GPU's memory: the meaning of
// Layout::kMatrix and kGateUp here (tensor.h).
//
// Row-major, as TMA, cp.async and ldmatrix want it. Each row is padded by zeros to a multiple of 16
// bytes, so that every row begins aligned whatever I is.
//
//   kMatrix  row o of group n is row n * O + o.
//   kGateUp  the 2F rows of a group in blocks of 16: the gate rows of 8 output columns, then the up
//            rows of the same 8. A thread that holds an element of a gate's 8 columns in an mma
//            fragment holds its up element in the next, so that SwiGLU needs no exchange. F is
//            padded to a multiple of 8; the rows past F are zero.
//
// int8, int4 and float8 weights have rows of whole blocks of 128 k: 128 bytes each, of int4 64.
// Beside them stands one word per row and block, with the scale. A group is the values of its rows,
// then its words [blocks][rows, rounded up to 32]. A product that takes neighbouring rows block by
// block loads the words of several rows at once. The words of 32 rows take what a row's values take
// (of int4 two rows'). So all groups are one matrix of such rows for TMA.
//   values   lines of 64 bytes each (64 k, of int4 128 k), as four units of 16 bytes. Of every
//            16 k, unit c has the four from 4c on. Thread c of a quad needs these for the same rows
//            in each mma, with 16 bytes at once. Neighbouring threads that take a unit each read
//            neighbouring activations.
//              int8   word i of a unit: k 16 i + 4 c + 0, 2, 1, 3, lowest byte first, as q + 128
//              float8 word i of a unit: k 16 i + 4 c + 0, 1, 2, 3, lowest byte first
//              int4   word i of a unit: nibble n has
//                     k 32 i + 16 (n / 2 % 2) + 4 c + 2 (n % 2) + n / 4, as q + 8
//            So a mask turns a word into pairs of neighbouring k
//            (kernels/grouped_gemm/quantised.cuh).
//   word     int8, float8   the scale as f32
//            int4   the scale as f32 in the bits from 20 on, which hold all of it (no sign, three
//                   bits of fraction), and multiplier[j] + 16 in the five bits from 5 j on
#pragma once

#include <type_traits>

#include "weights/float8.h"
#include "weights/quantise.h"
#include "tensor.h"

namespace moepp::cuda {

constexpr int64_t kGateUpRows = 8;

// Elements from one stored row to the next.
static inline int64_t weight_pitch(DType dtype, int64_t inputs) {
  if (is_blocked(dtype)) return quant_blocks(inputs) * kQuantBlock;
  const int64_t unit = 16 / dtype_size(dtype);
  return (inputs + unit - 1) / unit * unit;
}

// Stored rows of one group with `rows` (O, or 2F) rows.
static inline int64_t weight_rows(Layout layout, int64_t rows) {
  return layout == Layout::kGateUp ? (rows / 2 + kGateUpRows - 1) / kGateUpRows * kGateUpRows * 2
                                   : rows;
}

// Bytes of a stored row's values.
static inline int64_t weight_row_bytes(DType dtype, int64_t inputs) {
  const int64_t pitch = weight_pitch(dtype, inputs);
  return dtype == DType::kI8 || dtype == DType::kF8 ? pitch
         : dtype == DType::kI4                      ? pitch / 2
                                                    : pitch * dtype_size(dtype);
}

// Rows that a group of blocks with `stored` stored rows has words for.
constexpr int64_t kScaleRows = 32;
constexpr int64_t scale_rows(int64_t stored) {
  return (stored + kScaleRows - 1) / kScaleRows * kScaleRows;
}

static inline int64_t weight_group_bytes(DType dtype, Layout layout, int64_t rows, int64_t inputs) {
  const int64_t stored = weight_rows(layout, rows);
  return stored * weight_row_bytes(dtype, inputs) +
         (is_blocked(dtype) ? quant_blocks(inputs) * scale_rows(stored) * 4 : 0);
}

static inline int64_t weight_bytes(DType dtype, Layout layout, int64_t groups, int64_t rows,
                                   int64_t inputs) {
  return groups * weight_group_bytes(dtype, layout, rows, inputs);
}

// The row of the group that is stored at `place`, or -1 for padding.
static inline int64_t weight_row_at(Layout layout, int64_t rows, int64_t place) {
  if (layout != Layout::kGateUp) return place;
  const int64_t column = place / (2 * kGateUpRows) * kGateUpRows + place % kGateUpRows;
  if (column >= rows / 2) return -1;
  return place % (2 * kGateUpRows) < kGateUpRows ? column : rows / 2 + column;
}

// Writes the values of a block of a row, 128 or 64 bytes, and returns its word.
static inline uint32_t pack_block(const Int8Block& block, unsigned char* to) {
  constexpr int kPlaces[4] = {0, 2, 1, 3};
  for (int64_t k = 0; k < kQuantBlock; k++) {
    to[k / 64 * 64 + k / 4 % 4 * 16 + k / 16 % 4 * 4 + kPlaces[k % 4]] =
        static_cast<unsigned char>(block.q[k] + 128);
  }
  return static_cast<uint32_t>(block.scale) << 16;
}
static inline uint32_t pack_block(const Int4Block& block, unsigned char* to) {
  std::memset(to, 0, kQuantBlock / 2);
  for (int64_t k = 0; k < kQuantBlock; k++) {
    const int64_t nibble = k / 16 % 2 * 2 + k % 4 / 2 + k % 2 * 4;
    unsigned char& byte = to[k / 4 % 4 * 16 + k / 32 * 4 + nibble / 2];
    byte = static_cast<unsigned char>(byte | (block.q[k] + 8) << (nibble % 2 * 4));
  }
  uint32_t word = static_cast<uint32_t>(block.scale) << 16;
  for (int64_t j = 0; j < kInt4Groups; j++)
    word |= static_cast<uint32_t>(block.multiplier[j] + 16) << (5 * j);
  return word;
}

static inline uint32_t pack_block(const Float8Block& block, unsigned char* to) {
  for (int64_t k = 0; k < kQuantBlock; k++)
    to[k / 64 * 64 + k / 4 % 4 * 16 + k / 16 % 4 * 4 + k % 4] = block.code[k];
  uint32_t word;
  std::memcpy(&word, &block.scale, 4);
  return word;
}

// Bytes of a block's values.
template <class Block>
constexpr int64_t kPackedBytes = std::is_same_v<Block, Int4Block> ? kQuantBlock / 2 : kQuantBlock;

// Packs stored row `place` of a quantised group: its values to `values`, its words to every
// scale_rows-th of `words`, from its own on. read_block(b, &block) makes block b. If it returns
// false, so does this.
template <class Block, class ReadBlock>
bool pack_quantised_row(int64_t stored, int64_t place, int64_t inputs, unsigned char* values,
                        uint32_t* words, const ReadBlock& read_block) {
  for (int64_t b = 0; b < quant_blocks(inputs); b++) {
    Block block;
    if (!read_block(b, &block)) return false;
    words[b * scale_rows(stored) + place] = pack_block(block, values + b * kPackedBytes<Block>);
  }
  return true;
}

// Packs one quantised group. read_block(row, b, &block) makes block b of a row. Returns the first
// row for which it returns false, or -1.
template <class Block, class ReadBlock>
int64_t pack_quantised_weight(Layout layout, int64_t rows, int64_t inputs, void* group,
                              const ReadBlock& read_block) {
  const int64_t stored = weight_rows(layout, rows),
                row_bytes = quant_blocks(inputs) * kPackedBytes<Block>;
  auto* values = static_cast<unsigned char*>(group);
  auto* words = reinterpret_cast<uint32_t*>(values + stored * row_bytes);
  std::memset(words, 0, static_cast<size_t>(quant_blocks(inputs) * scale_rows(stored) * 4));
  for (int64_t place = 0; place < stored; place++) {
    const int64_t row = weight_row_at(layout, rows, place);
    const auto read = [&](int64_t b, Block* block) {
      *block = {};
      return row < 0 || read_block(row, b, block);
    };
    if (!pack_quantised_row<Block>(stored, place, inputs, values + place * row_bytes, words, read))
      return row;
  }
  return -1;
}

// Packs one group of f32 or bf16. read_row(row, dst) writes the `inputs` elements of a row in
// `dtype` to dst.
template <class ReadRow>
void pack_weight(DType dtype, Layout layout, int64_t rows, int64_t inputs, void* group,
                 const ReadRow& read_row) {
  const auto used = static_cast<size_t>(inputs * dtype_size(dtype));
  const auto pitch = static_cast<size_t>(weight_pitch(dtype, inputs) * dtype_size(dtype));
  auto* at = static_cast<unsigned char*>(group);
  for (int64_t place = 0; place < weight_rows(layout, rows); place++, at += pitch) {
    const int64_t row = weight_row_at(layout, rows, place);
    if (row < 0) {
      std::memset(at, 0, pitch);
      continue;
    }
    read_row(row, static_cast<void*>(at));
    std::memset(at + used, 0, pitch - used);
  }
}

}  // namespace moepp::cuda
