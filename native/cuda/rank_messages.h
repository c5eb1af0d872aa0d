// Messages between the GPUs of ranks, in their memory. A message of rows has a header, then the
// picks, then the rows, of f32 or bf16. Each row has `chosen` slots for its picks: FFN experts of 2
// bytes, and kNoExpert behind the last. A message of results is rows of f32 alone.
#pragma once

#include <cstdint>

#include "cuda/simt/simt.h"
#include "ops/expert_runs.h"

namespace moepp::cuda {

struct RowsHeader {
  int32_t rows, picks, hidden, bf16;
};
constexpr uint16_t kNoExpert = 0xffff;

// The place of the rows in a message, and its end.
SIMT_HOST_DEVICE int64_t rows_at(int64_t rows, int64_t chosen) {
  return (static_cast<int64_t>(sizeof(RowsHeader)) + 2 * rows * chosen + 15) / 16 * 16;
}
SIMT_HOST_DEVICE int64_t rows_end(int64_t rows, int64_t chosen, int64_t hidden, bool bf16) {
  return rows_at(rows, chosen) + rows * hidden * (bf16 ? 2 : 4);
}

// The messages to all ranks, or from them.
struct MessageBox {
  std::byte* data;
  const int64_t* begins;  // of each rank's message

  SIMT_DEVICE std::byte* of(int rank) const { return data + begins[rank]; }
};

// For each FFN expert a rank, or a place.
struct ExpertTable {
  uint16_t of[kMostExperts];
};

// The faults that kernels find in messages. Zero: none.
enum class RankFault : int32_t { kNone = 0, kHeader = 1, kPick = 2, kPicks = 3, kRows = 4 };

// Of a rank since the group was opened: its first fault, and what went there.
struct RankReport {
  int32_t fault, value;
  int64_t rows, picks;
};

// Of a message that was read. A message with a fault has none.
struct CheckedRows {
  int32_t rows, picks, bf16;
};

}  // namespace moepp::cuda
