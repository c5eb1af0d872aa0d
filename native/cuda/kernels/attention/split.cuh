// Contexts that are split among blocks, and the last block's sum of their partial results.
//
// The chunks that a row sees are cut into ranges of `length` chunks, counted from its first. The
// length depends on the number of these chunks, and on sizes of the model. So a row's bits depend
// neither on the step nor on the number of blocks. Each block takes every slices-th range.
//
// Ranges are short enough to fill the device with one token's rows, and long enough that the fold
// does not take longer than a range. The estimate is for an H100, and not measured. A block takes
// some 1.6 us for a chunk: two round trips to memory of 0.7 us, and 200 instructions of each warp.
// It folds 109 GB/s, 64 bytes a clock from L2, so 43,600 elements in the same time. 512 blocks with
// 24 KB on their way every 1.6 us ask for 7.7 TB/s.
#pragma once

#include "cuda/kernels/attention/attention.h"
#include "cuda/last_block.cuh"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

constexpr int kSplitThreads = 128;
constexpr int kRangeBlocks = 512;      // of one token
constexpr int kFoldElements = 43'600;  // as long as a chunk

// The most ranges of a row of `chunks` chunks or less.
SIMT_HOST_DEVICE int most_ranges(const Attention& a, int chunks) {
  return min(chunks, max(1, kRangeBlocks / (a.step.kv_heads * a.row_blocks())));
}
// A power of two.
SIMT_HOST_DEVICE int range_length(const Attention& a, int chunks) {
  const int most = most_ranges(a, chunks), elements = min(a.group, kSplitRows) * a.step.value_dim;
  int length = 1;
  for (int ranges = chunks; ranges > 1; ranges = (chunks + length - 1) / length) {
    if (ranges <= most && ranges * elements <= static_cast<int64_t>(length) * kFoldElements) break;
    length *= 2;
  }
  return length;
}

// The chunks that a block walks through, ascending: all that its rows see, or its ranges of them.
template <bool kSplit>
struct ChunkWalk {
  KeyRange keys;
  SplitPlace at;
  int first, length, ranges;

  SIMT_DEVICE ChunkWalk(const Attention& a, const SplitPlace& place, const KeyRange& range)
      : keys(range), at(place), first(range.first_chunk()), length(1), ranges(1) {
    if (!kSplit) return;
    const int chunks = (keys.limit - 1) / kChunk + 1 - first;
    length = range_length(a, chunks);
    ranges = (chunks + length - 1) / length;
  }
  SIMT_DEVICE int begin() const { return first + (kSplit ? at.slice * length : 0); }
  SIMT_DEVICE bool has(int chunk) const { return keys.has(chunk); }
  SIMT_DEVICE bool ends_range(int chunk) const {
    return (chunk + 1 - first) % length == 0 || !has(chunk + 1);
  }
  SIMT_DEVICE int after(int chunk) const {
    const bool jumps = kSplit && (chunk + 1 - first) % length == 0;
    return chunk + 1 + (jumps ? (at.slices - 1) * length : 0);
  }
  SIMT_DEVICE int range_of(int chunk) const { return (chunk - first) / length; }
};

// The place of a row's sums: out, or, of one range of several, the workspace.
class RowSums {
 public:
  // By one thread of the row with `first`: m and l go to the workspace, too.
  SIMT_DEVICE RowSums(const Attention& a, const RowBlock& block, int row, const RowState& state,
                      int range, int ranges, bool first)
      : out_(a.out), partial_(nullptr) {
    const int d = a.step.value_dim;
    inverse_ = 1.0f / state.total;
    at_ = block.query(a, row) * d;
    if (ranges == 1) return;
    const int64_t to = a.partial(block.unit, block.query_head(a, row), range);
    if (first) a.states[to] = make_float2(state.highest, state.total);
    partial_ = a.sums + to * d;
  }
  // Elements i .. i + N - 1.
  template <int N>
  SIMT_DEVICE void store(int i, const float (&sums)[N]) const {
    if (partial_ != nullptr) return store_elements(partial_ + i, sums);
    float mean[N];
#pragma unroll
    for (int e = 0; e < N; e++) mean[e] = sums[e] * inverse_;
    out_.store(at_ + i, mean);
  }

 private:
  const Output out_;
  float* partial_;
  float inverse_;
  int64_t at_;  // in out
};

struct FoldSmem {
  int told;
  RowState rows[kSplitRows];
  float sums[kSplitThreads][4];
};

SIMT_DEVICE float fold_weight(float m, float highest) {
  return m == highest ? 1.0f : exp2f(m - highest);
}

// The highest score of all ranges and the total of a row, by a warp.
SIMT_DEVICE RowState fold_states(const float2* states, int ranges) {
  RowState row;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int i = lane; i < ranges; i += 32) row.highest = fmaxf(row.highest, states[i].x);
  row.highest = warp_max(row.highest);
  for (int i = lane; i < ranges; i += 32)
    row.total = fmaf(fold_weight(states[i].x, row.highest), states[i].y, row.total);
  row.total = warp_sum(row.total);
  return row;
}

// A thread sums N neighbouring elements of a row over the ranges. If the rows have fewer elements
// than the block threads, several threads share them: each takes every slices-th range.
template <int N>
SIMT_DEVICE void fold_sums(const Attention& a, const RowBlock& block, int ranges, FoldSmem& s) {
  const int d = a.step.value_dim, thread = static_cast<int>(threadIdx.x), columns = d / N,
            units = block.count * columns, slices = max(1, kSplitThreads / units);
  for (int first = 0; first < units * slices; first += kSplitThreads) {
    const int number = first + thread, slice = number / units, row = number % units / columns,
              at = number % columns * N;
    float sum[N] = {};
    if (slice < slices) {
      const int64_t partial = a.partial(block.unit, block.query_head(a, row), 0);
      const float highest = s.rows[row].highest;
#pragma unroll 8
      for (int i = slice; i < ranges; i += slices) {
        float part[N];
        load_elements(a.sums + (partial + i) * d + at, part);
        const float weight = fold_weight(a.states[partial + i].x, highest);
#pragma unroll
        for (int e = 0; e < N; e++) sum[e] = fmaf(part[e], weight, sum[e]);
      }
    }
    if (slices > 1) {
#pragma unroll
      for (int e = 0; e < N; e++) s.sums[thread][e] = sum[e];
      simt::sync_threads<kSplitThreads>();
      for (int other = thread + units; slice == 0 && other < units * slices; other += units) {
#pragma unroll
        for (int e = 0; e < N; e++) sum[e] += s.sums[other][e];
      }
    }
    if (slice == 0) RowSums(a, block, row, s.rows[row], 0, 1, false).store(at, sum);
  }
}

// After a block's last partial result: the last block of the rows writes out. By all its threads;
// shared memory is free to be overwritten.
template <int N>
SIMT_DEVICE void fold_ranges(const Attention& a, const SplitPlace& at, const RowBlock& block,
                             int ranges) {
  if (ranges == 1) return;
  auto& s = *simt::smem<FoldSmem>();
  unsigned* finished = a.finished + at.number * a.step.kv_heads + at.head;
  if (!is_last_block<kSplitThreads>(finished, static_cast<unsigned>(min(at.slices, ranges)),
                                    &s.told))
    return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int row = warp; row < block.count; row += kSplitThreads / 32) {
    const RowState state =
        fold_states(a.states + a.partial(block.unit, block.query_head(a, row), 0), ranges);
    if (threadIdx.x % 32 == 0) s.rows[row] = state;
  }
  simt::sync_threads<kSplitThreads>();
  fold_sums<N>(a, block, ranges, s);
}

}  // namespace moepp::cuda
