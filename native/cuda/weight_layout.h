// How a weight [N, O, I] (or [O, I]: N = 1) lies in a GPU's memory: what Layout::kPanels and kGateUpPanels mean here (tensor.h).
//
// Row-major, as TMA, cp.async and ldmatrix want it, with each row padded by zeros to a multiple of 16 bytes, so that every row
// begins aligned whatever I is.
//   kPanels        row o of group n is row n * O + o
//   kGateUpPanels  the 2F rows of a group in blocks of 16: the gate rows of 8 output columns, then the up rows of the same 8. A
//                  thread that holds an element of a gate's 8 columns in an mma fragment holds its up element in the next, so
//                  that SwiGLU needs no exchange. F is padded to a multiple of 8; the rows past F are zero.
#pragma once

#include "tensor.h"

namespace moepp::cuda {

constexpr int64_t kGateUpRows = 8;

// Elements from one stored row to the next.
static inline int64_t weight_pitch(DType dtype, int64_t inputs) {
  const int64_t unit = 16 / dtype_size(dtype);
  return (inputs + unit - 1) / unit * unit;
}

// Stored rows of one group with `rows` (O, or 2F) rows.
static inline int64_t weight_rows(Layout layout, int64_t rows) {
  return layout == Layout::kGateUpPanels ? (rows / 2 + kGateUpRows - 1) / kGateUpRows * kGateUpRows * 2 : rows;
}

static inline int64_t weight_bytes(DType dtype, Layout layout, int64_t groups, int64_t rows, int64_t inputs) {
  return groups * weight_rows(layout, rows) * weight_pitch(dtype, inputs) * dtype_size(dtype);
}

// The row of the group that is stored at `place`, or -1 for padding.
static inline int64_t weight_row_at(Layout layout, int64_t rows, int64_t place) {
  if (layout != Layout::kGateUpPanels) return place;
  const int64_t column = place / (2 * kGateUpRows) * kGateUpRows + place % kGateUpRows;
  if (column >= rows / 2) return -1;
  return place % (2 * kGateUpRows) < kGateUpRows ? column : rows / 2 + column;
}

// Packs one group. read_row(row, dst) writes the `inputs` elements of a row in `dtype` to dst.
template <class ReadRow>
void pack_weight(DType dtype, Layout layout, int64_t rows, int64_t inputs, void* group, const ReadRow& read_row) {
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
