// Attention (ops/attention.h), as its kernels share it. No kernel here has run on a GPU yet: they
// are tested under emulation (native/test/simt).
//
// The exponential of a large score overflows. So the kernels subtract the highest score so far, and
// correct the sums when a higher one comes. A row is one (token, query head), and its keys are
// taken in chunks of 64, counted from position 0:
//
//   for (each row) {
//     for (M = -infinity, L = O = 0, each chunk of its keys, ascending) {
//       m = max(score of each key), l = sum(e^(score - m)), o = sum(e^(score - m) value);
//       M' = max(M, m);
//       L = L e^(M - M') + l e^(m - M');
//       O = O e^(M - M') + o e^(m - M');
//       M = M';
//     }
//     out = O (1 / L);
//   }
//
// So a row's bits depend neither on the rows beside it nor on the block that computes a chunk.
// There are two ways, chosen by speed.
//   whole   For prefill. A block takes some rows and walks through their context, merging as it
//           goes.
//   split   For decode, where there are too few rows to fill the device. A block takes a range of
//           the chunks of one token's rows. It leaves a partial result in the workspace. The last
//           block of these rows to end folds them all (split.cuh).
//
// In either, keys and values pass through shared memory, where the rows of a block share them. The
// rows are the query heads of a key/value head, and consecutive tokens. Source: Dao,
// FlashAttention-2; Milakov and Gimelshein, Online normalizer calculation for softmax.
//
// Scores are kept in units of log2(e), for exp2. Tensor cores (mma.cu) take a bf16 cache whose keys
// and values have the same dim, 64 to 128. There q and e^(score - m) are rounded to bf16, as keys
// and values are. Products and sums are f32, and l sums the rounded weights. All else is f32
// (f32.cu). Latents have kernels of their own (latents.cu, latents_mma.cuh). Whole contexts on
// Hopper are wgmma.cu's, in chunks of 128, if the dim is 64, 96 or 128: there o is summed in the
// scale of M' at once.
#pragma once

#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kv_layout.cuh"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

constexpr int kChunk = 64;
constexpr int kSplitRows = 16;  // of a block, when split

struct Attention {
  KvStep step;
  const float* q;         // [T, Hq, D]
  Output out;             // [T, Hq Dv]
  int tokens, hq, group;  // group: query heads per key/value head
  float scale;            // times log2(e)
  int window;             // keys that a row sees at most, the last ones; INT_MAX without a window
  // Sequences with at most `split_tokens` tokens are split over their context, as units of one
  // token. With 0 the units are the tokens of the step, whatever their sequences.
  int split_tokens;
  int first_unit, units;  // of this launch
  int chunks;             // that a row has at most
  int ranges;             // and partial results
  float* sums;            // o [units, Hq, ranges, Dv]
  float2* states;         // m, l [units, Hq, ranges]
  unsigned* finished;     // zeros; [units, blocks of rows of a group, Hkv]

  // The token of a unit of this launch, or -1.
  SIMT_DEVICE int unit_token(int unit) const {
    if (split_tokens == 0) return first_unit + unit;
    const int sequence = (first_unit + unit) / split_tokens,
              index = (first_unit + unit) % split_tokens;
    const int start = step.sequence_starts[sequence],
              count = step.sequence_starts[sequence + 1] - start;
    return index < count && count <= split_tokens ? start + index : -1;
  }
  // With `limit` keys up to its position, a row sees those from first_key() on.
  SIMT_DEVICE int first_key(int limit) const { return max(0, limit - window); }
  SIMT_DEVICE bool sees(int limit, int key) const {
    return static_cast<unsigned>(limit - 1 - key) < static_cast<unsigned>(window);
  }
  SIMT_DEVICE int64_t partial(int unit, int head, int range) const {
    return (static_cast<int64_t>(unit) * hq + head) * ranges + range;
  }
  // Of a group's rows, when split.
  SIMT_HOST_DEVICE int row_blocks() const { return (group + kSplitRows - 1) / kSplitRows; }
};

// A block's place in the grid when split. A launch has blocks of its own for all places; a
// persistent kernel's blocks take one after another.
struct SplitPlace {
  int number;         // of the blocks of rows of the units
  int head;           // of keys and values
  int slice, slices;  // the block takes every slices-th range

  SIMT_DEVICE static SplitPlace of_block() {
    return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y),
            static_cast<int>(blockIdx.z), static_cast<int>(gridDim.z)};
  }
};

// Rows first .. first + count - 1 of a sequence and a key/value head, numbered token by token, in a
// token by query head.
struct RowBlock {
  int sequence, start, first, count;  // start: the sequence's first token
  int unit;                           // when split
  int head;                           // of keys and values

  SIMT_DEVICE int token(const Attention& a, int row) const {
    return start + (first + row) / a.group;
  }
  SIMT_DEVICE int query_head(const Attention& a, int row) const {
    return head * a.group + (first + row) % a.group;
  }
  // The row's number in q and in out.
  SIMT_DEVICE int64_t query(const Attention& a, int row) const {
    return static_cast<int64_t>(token(a, row)) * a.hq + query_head(a, row);
  }
  // Keys up to the row's position; 0 past the last row.
  SIMT_DEVICE int limit(const Attention& a, int row) const {
    return row < count ? a.step.positions[token(a, row)] + 1 : 0;
  }
};

// Whole: the last blocks, which see the most keys, are found first. False: nothing for this block
// to do.
template <int kRows>
SIMT_DEVICE bool find_whole(const Attention& a, RowBlock* block) {
  int number = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  for (int b = 0; b < a.step.sequences; b++) {
    const int start = a.step.sequence_starts[b], count = a.step.sequence_starts[b + 1] - start;
    if (count <= a.split_tokens) continue;
    const int rows = count * a.group, blocks = (rows + kRows - 1) / kRows;
    if (number < blocks) {
      *block = {b,
                start,
                number * kRows,
                min(kRows, rows - number * kRows),
                0,
                static_cast<int>(blockIdx.y)};
      return true;
    }
    number -= blocks;
  }
  return false;
}

SIMT_DEVICE bool find_split(const Attention& a, const SplitPlace& at, RowBlock* block) {
  const int blocks = a.row_blocks(), within = at.number % blocks * kSplitRows,
            unit = at.number / blocks;
  const int token = a.unit_token(unit);
  if (token < 0) return false;
  const int sequence = a.step.sequence_of(token), start = a.step.sequence_starts[sequence];
  *block = {sequence, start,  (token - start) * a.group + within, min(kSplitRows, a.group - within),
            unit,     at.head};
  return true;
}

// The keys first .. limit - 1 are what any row of a warp, or of a block, sees.
struct KeyRange {
  int first, limit;

  SIMT_DEVICE int first_chunk() const { return first / kChunk; }
  SIMT_DEVICE bool has(int chunk) const {
    return chunk * kChunk < limit && first < (chunk + 1) * kChunk;
  }
  SIMT_DEVICE bool has_key(int key) const { return key >= first && key < limit; }
};

// Of the warps' ranges. `ranges` is shared memory. By all threads of the block.
template <int kWarps>
SIMT_DEVICE KeyRange block_range(const KeyRange& warp, KeyRange (&ranges)[kWarps]) {
  if constexpr (kWarps == 1) return warp;
  if (threadIdx.x % 32 == 0) ranges[threadIdx.x / 32] = warp;
  simt::sync_threads<32 * kWarps>();
  KeyRange range = ranges[0];
#pragma unroll
  for (int i = 1; i < kWarps; i++)
    range = {min(range.first, ranges[i].first), max(range.limit, ranges[i].limit)};
  return range;
}

// The start of a chunk's keys in the layer; -1 where no row of the block sees one.
SIMT_DEVICE void find_keys(const Attention& a, const RowBlock& block, int chunk, KeyRange range,
                           int64_t* rows) {
  for (int i = threadIdx.x; i < kChunk; i += blockDim.x) {
    const int position = chunk * kChunk + i;
    rows[i] = range.has_key(position) ? a.step.key_row(block.sequence, position, block.head) : -1;
  }
}
// The same of its values.
SIMT_DEVICE void find_values(const Attention& a, const RowBlock& block, int chunk, KeyRange range,
                             int64_t* rows) {
  for (int i = threadIdx.x; i < kChunk; i += blockDim.x) {
    const int position = chunk * kChunk + i;
    rows[i] = range.has_key(position) ? a.step.value_row(block.sequence, position, block.head) : -1;
  }
}

// The statistics merged so far, without the sums.
struct RowState {
  float highest = -INFINITY, total = 0.0f;
};

// Takes a chunk's m and l in; the sums become sum * keep + o * add. A row that sees none of the
// chunk stays as it is.
SIMT_DEVICE void merge(RowState& state, float m, float l, float* keep, float* add) {
  const float highest = fmaxf(state.highest, m);
  *keep = state.highest == highest ? 1.0f : exp2f(state.highest - highest);
  *add = m == highest ? 1.0f : exp2f(m - highest);
  state.highest = highest;
  state.total = fmaf(state.total, *keep, l * *add);
}
SIMT_DEVICE float merged(float sum, float keep, float o, float add) {
  return fmaf(sum, keep, o * add);
}

// The launchers of the kernels, in the files of this folder. splits: how many blocks share the
// ranges of a unit.
bool has_wgmma(const Attention& a, DType cache);  // of whole contexts, compiled for sm_90a
bool has_mma(const Attention& a, DType cache, int compute_capability);
void attend_sm90(const Attention& a, CudaQueue& queue);
void attend_mma(const Attention& a, bool split, int splits, CudaQueue& queue);
void attend_f32(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue);
void attend_latents(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue);

// Host: the op's arguments, without those of a launch; and if all tokens of the step are split,
// where there is room.
Attention attention_of(const AttentionArgs& args);
bool splits_all(const Attention& a);

// Host: what the workspace must hold to split one unit.
inline int64_t split_bytes(const Attention& a) {
  return static_cast<int64_t>(a.hq) * a.ranges * (a.step.value_dim + 2) *
         static_cast<int64_t>(sizeof(float));
}

// Host: the grid of either way.
inline dim3 attention_grid(const Attention& a, bool split, int splits, int rows) {
  const auto heads = static_cast<unsigned>(a.step.kv_heads);
  if (split)
    return dim3(static_cast<unsigned>(a.units * a.row_blocks()), heads,
                static_cast<unsigned>(splits));
  const int64_t all = static_cast<int64_t>(a.tokens) * a.group, sequences = a.step.sequences;
  // each sequence may have one block that is not full
  return dim3(static_cast<unsigned>(all / rows + sequences), heads);
}

}  // namespace moepp::cuda
