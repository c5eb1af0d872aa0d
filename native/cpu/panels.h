// The byte layout of weight panels on the CPU (tensor.h says what a panel is).
//
// A panel holds 32 rows of a weight [N, K], read by the GEMM as 32 columns of the output:
//   f32    float[K][32]
//   bf16   uint16[ceil(K/2)][32][2]: two consecutive k of one row side by side, so that one 512-bit load holds 16 rows and
//          two k: a shift by 16 gives the f32 of the even k, a mask the f32 of the odd one
// Rows past N and the odd k past K are zero.
#pragma once

#include "tensor.h"

namespace moepp::cpu {

constexpr int64_t kPanelRows = 32;
constexpr int64_t kGateUpColumns = kPanelRows / 2;  // output columns of one gate-up panel: 16 gate rows, then 16 up rows

static inline int64_t panel_bytes(DType dtype, int64_t k) {
  return dtype == DType::kF32 ? k * kPanelRows * 4 : (k + 1) / 2 * kPanelRows * 4;
}

static inline int64_t panel_count(Layout layout, int64_t rows) {
  return layout == Layout::kGateUpPanels ? (rows / 2 + kGateUpColumns - 1) / kGateUpColumns
                                         : (rows + kPanelRows - 1) / kPanelRows;
}

// The weight's row that stands at place `lane` of panel `panel`, or -1 for padding.
static inline int64_t panel_row(Layout layout, int64_t rows, int64_t panel, int64_t lane) {
  if (layout != Layout::kGateUpPanels) {
    const int64_t row = panel * kPanelRows + lane;
    return row < rows ? row : -1;
  }
  const int64_t columns = rows / 2;
  const int64_t column = panel * kGateUpColumns + lane % kGateUpColumns;
  return column >= columns ? -1 : lane < kGateUpColumns ? column : columns + column;
}

// Index of element [lane, k] within its panel, in elements.
static inline int64_t panel_index(DType dtype, int64_t lane, int64_t k) {
  return dtype == DType::kF32 ? k * kPanelRows + lane : (k / 2 * kPanelRows + lane) * 2 + k % 2;
}

}  // namespace moepp::cpu
