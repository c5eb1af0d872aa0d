// Attention over a bf16 cache of latents on tensor cores (mma.sync m16n8k16), sm_80 and up. A key
// has 576 elements: a latent, which is its value, and a rotated part. Four warps share 16 rows, the
// query heads of a token: each has a quarter of a chunk's scores, then a quarter of the values'
// dimensions. Weights pass from warp to warp through shared memory.
//
// A chunk's keys are its values, too, and come once. They pass in halves of 32 keys through a ring
// of slots. A slot is filled again as soon as its half is added up.
//
// The limits of an H100, by counting: 16 rows read 220 KB of shared memory for a chunk, which takes
// 1,730 clocks, and multiply for 800. The chunk takes 5,100 clocks from memory. 64 heads read it
// four times, but for the first from L2.
//
// A value whose weight is 0 is multiplied, too: see mma.cuh.
#pragma once

#include <climits>

#include "cuda/kernels/attention/split.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace latents_mma {

inline constexpr int kKeyDim = 576, kValueDim = 512, kSteps = kKeyDim / 16, kWarps = 4;
inline constexpr int kKeys = kChunk / kWarps, kDims = kValueDim / kWarps, kHalf = kChunk / 2;
// Rows of an odd number of 16-byte units: eight of them, as ldmatrix reads them, cover each bank
// once.
inline constexpr int kPitch = (kKeyDim / 8 | 1) * 8, kWeightPitch = (kChunk / 8 | 1) * 8;

// RowGroups: groups of 16 rows, with four warps each. SlotCount: slots of the ring.
template <bool SplitContext, int RowGroups, int SlotCount>
struct Config {
  static constexpr bool kSplit = SplitContext;
  static constexpr int kGroups = RowGroups, kSlots = SlotCount, kRows = 16 * kGroups,
                       kThreads = 32 * kWarps * kGroups;
  static_assert(!kSplit || (kThreads == kSplitThreads && kRows == kSplitRows), "the fold's");
};

template <class C>
struct Smem {
  alignas(128) simt::bf16 keys[C::kSlots][kHalf * kPitch];
  alignas(16) simt::bf16 weights[C::kRows * kWeightPitch];
  uint4 q[C::kGroups][kSteps][32];                            // fragments of each lane
  float highest[kWarps][C::kRows], totals[kWarps][C::kRows];  // of each warp's keys
  KeyRange ranges[C::kThreads / 32];
};

SIMT_DEVICE int lane() {
  return static_cast<int>(threadIdx.x) % 32;
}
// Among the four that share rows.
SIMT_DEVICE int warp() {
  return static_cast<int>(threadIdx.x) / 32 % kWarps;
}
SIMT_DEVICE int group() {
  return static_cast<int>(threadIdx.x) / 32 / kWarps;
}

SIMT_DEVICE uint32_t rounded_pair(const float* p) {
  const float2 pair = *reinterpret_cast<const float2*>(p);
  return simt::pack_bf16(pair.x, pair.y);
}

// A warp's quarter of the 16 rows of its group. A thread has parts of rows lane / 4 and + 8;
// fragments as in cuda/simt/mma.h.
template <class C>
struct WarpRows {
  int limit[2];    // of its rows
  KeyRange range;  // of the group's rows
  RowState state[2];
  float sums[kDims / 8][4];  // of dimensions kDims warp() + 8 i + 2 (lane % 4) and + 1

  SIMT_DEVICE static int row(int i) { return group() * 16 + lane() / 4 + 8 * i; }
  SIMT_DEVICE void load(const Attention& a, const RowBlock& block, Smem<C>& s) {
    const float* from[2];
    int first = INT_MAX;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      limit[i] = block.limit(a, row(i));
      if (row(i) < block.count) first = min(first, a.first_key(limit[i]));
      from[i] =
          a.q + block.query(a, row(i) < block.count ? row(i) : 0) * kKeyDim + 2 * (lane() % 4);
    }
#pragma unroll 3
    for (int step = warp(); step < kSteps; step += kWarps) {
      s.q[group()][step][lane()] =
          make_uint4(rounded_pair(from[0] + 16 * step), rounded_pair(from[1] + 16 * step),
                     rounded_pair(from[0] + 16 * step + 8), rounded_pair(from[1] + 16 * step + 8));
    }
    range = {-simt::reduce_max(simt::kFullMask, -first),
             simt::reduce_max(simt::kFullMask, max(limit[0], limit[1]))};
    reset();
  }
  SIMT_DEVICE void reset() {
    state[0] = state[1] = RowState();
#pragma unroll
    for (int i = 0; i < kDims / 8; i++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][e] = 0.0f;
    }
  }
};

// The halves of the block's chunks, in order, on their way into the ring.
template <class C>
struct Halves {
  int chunk, half = 0, slot = 0;  // of the next one

  SIMT_DEVICE void load(const Attention& a, const RowBlock& block, const ChunkWalk<C::kSplit>& walk,
                        Smem<C>& s) {
    if (walk.has(chunk)) {
      const int position = chunk * kChunk + half * kHalf + lane();
      copy(a, s.keys[slot],
           walk.keys.has_key(position) ? a.step.key_row(block.sequence, position, block.head) : -1);
    }
    simt::cp_async_commit();  // an empty group past the end, so that groups count halves
    if (half == 1) chunk = walk.after(chunk);
    half = 1 - half;
    slot = slot + 1 == C::kSlots ? 0 : slot + 1;
  }
  // Lane i knows the beginning of key i; -1: no row of the block sees it, and it becomes zeros.
  SIMT_DEVICE static void copy(const Attention& a, simt::bf16* to, int64_t mine) {
    const auto* keys = static_cast<const simt::bf16*>(a.step.layer);
#pragma unroll 1
    for (int key = static_cast<int>(threadIdx.x) / 32; key < kHalf; key += C::kThreads / 32) {
      const int64_t row = __shfl_sync(simt::kFullMask, mine, key);
      const simt::bf16* from = row < 0 ? keys : keys + row;
      for (int i = lane() * 8; i < kKeyDim; i += 256)
        simt::cp_async_zfill<16>(to + key * kPitch + i, from + i, row < 0 ? 0 : 16);
    }
  }
};

// scores[n][..]: with the keys 8 n .. 8 n + 7 of the warp's, which are in the half `keys`.
template <class C>
SIMT_DEVICE void score_keys(const Smem<C>& s, const simt::bf16* keys, float (&scores)[2][4]) {
  const simt::bf16* from =
      keys + (warp() % 2 * kKeys + lane() / 16 * 8 + lane() % 8) * kPitch + lane() / 8 % 2 * 8;
#pragma unroll 4
  for (int step = 0; step < kSteps; step++) {
    const uint4 fragment = s.q[group()][step][lane()];
    const uint32_t q[4] = {fragment.x, fragment.y, fragment.z, fragment.w};
    uint32_t low[2], high[2];
    simt::ldmatrix_x4(low[0], low[1], high[0], high[1], from + step * 16);
    simt::mma_bf16(scores[0], q, low);
    simt::mma_bf16(scores[1], q, high);
  }
}

// Hides what a row does not see; each warp's highest score of a row goes to shared memory.
template <class C>
SIMT_DEVICE void find_highest(const Attention& a, Smem<C>& s, const WarpRows<C>& rows,
                              float (&scores)[2][4], int first_key) {
  const int column = first_key + warp() * kKeys + lane() % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float highest = -INFINITY;
#pragma unroll
    for (int e = 0; e < 4; e++) {
      float& score = scores[e / 2][2 * i + e % 2];
      if (!a.sees(rows.limit[i], column + e / 2 * 8 + e % 2)) score = -INFINITY;
      highest = fmaxf(highest, score);
    }
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 2));
    if (lane() % 4 == 0) s.highest[warp()][rows.row(i)] = highest * a.scale;
  }
}

// Scores become weights in the scale of the highest so far; keep[i] is what the sums become.
template <class C>
SIMT_DEVICE void soften(const Attention& a, Smem<C>& s, WarpRows<C>& rows,
                        const float (&scores)[2][4], float (&keep)[2]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = rows.row(i);
    float highest = rows.state[i].highest;
#pragma unroll
    for (int w = 0; w < kWarps; w++) highest = fmaxf(highest, s.highest[w][row]);
    keep[i] = rows.state[i].highest == highest ? 1.0f : exp2f(rows.state[i].highest - highest);
    rows.state[i].highest = highest;
    const float shift = highest == -INFINITY ? 0.0f : highest;  // nothing seen: weights of 0
    float total = 0.0f;
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const uint32_t pair = simt::pack_bf16(exp2f(fmaf(scores[n][2 * i], a.scale, -shift)),
                                            exp2f(fmaf(scores[n][2 * i + 1], a.scale, -shift)));
      const float2 rounded = simt::unpack_bf16(pair);
      total += rounded.x + rounded.y;
      const int key = warp() * kKeys + n * 8 + lane() % 4 * 2;
      *reinterpret_cast<uint32_t*>(s.weights + row * kWeightPitch + key) = pair;
    }
    total += __shfl_xor_sync(simt::kFullMask, total, 1);
    total += __shfl_xor_sync(simt::kFullMask, total, 2);
    if (lane() % 4 == 0) s.totals[warp()][row] = total;
  }
}

// The totals of all warps, and the sums in the new scale.
template <class C>
SIMT_DEVICE void rescale(const Smem<C>& s, WarpRows<C>& rows, const float (&keep)[2]) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = rows.row(i);
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; w++) total += s.totals[w][row];
    rows.state[i].total = fmaf(rows.state[i].total, keep[i], total);
  }
#pragma unroll
  for (int n = 0; n < kDims / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) rows.sums[n][e] *= keep[e / 2];
  }
}

// The sums of half a chunk's values, in the warp's dimensions.
template <class C>
SIMT_DEVICE void add_values(const Smem<C>& s, WarpRows<C>& rows, const simt::bf16* keys, int half) {
  const simt::bf16* weights =
      s.weights + (group() * 16 + lane() % 16) * kWeightPitch + half * kHalf + lane() / 16 * 8;
  const simt::bf16* values = keys + lane() % 16 * kPitch + warp() * kDims + lane() / 16 * 8;
#pragma unroll
  for (int k = 0; k < kHalf; k += 16) {
    uint32_t weight[4];
    simt::ldmatrix_x4(weight[0], weight[1], weight[2], weight[3], weights + k);
#pragma unroll
    for (int n = 0; n < kDims / 8; n += 2) {
      uint32_t low[2], high[2];
      simt::ldmatrix_x4_trans(low[0], low[1], high[0], high[1], values + k * kPitch + n * 8);
      simt::mma_bf16(rows.sums[n], weight, low);
      simt::mma_bf16(rows.sums[n + 1], weight, high);
    }
  }
}

// The rows of a group, or what they have of one range.
template <class C>
SIMT_DEVICE void write_rows(const Attention& a, const RowBlock& block, const WarpRows<C>& rows,
                            int range, int ranges) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    if (rows.row(i) >= block.count) continue;
    const RowSums to(a, block, rows.row(i), rows.state[i], range, ranges,
                     warp() == 0 && lane() % 4 == 0);
#pragma unroll
    for (int n = 0; n < kDims / 8; n++)
      to.store(warp() * kDims + 8 * n + 2 * (lane() % 4),
               {rows.sums[n][2 * i], rows.sums[n][2 * i + 1]});
  }
}

template <class C>
SIMT_DEVICE void attend_rows(const Attention& a, const SplitPlace& at) {
  auto& s = *simt::smem<Smem<C>>();
  RowBlock block;
  if (!(C::kSplit ? find_split(a, at, &block) : find_whole<C::kRows>(a, &block))) return;
  WarpRows<C> rows;
  rows.load(a, block, s);
  const ChunkWalk<C::kSplit> walk(a, at, block_range(rows.range, s.ranges));
  if (!walk.has(walk.begin())) return;
  Halves<C> halves = {walk.begin()};
#pragma unroll 1
  for (int i = 0; i < C::kSlots; i++) halves.load(a, block, walk, s);
  int slot = 0;
  for (int chunk = walk.begin(); walk.has(chunk); chunk = walk.after(chunk)) {
    const int second = slot + 1 == C::kSlots ? 0 : slot + 1;
    simt::cp_async_wait<C::kSlots - 2>();
    simt::sync_threads<C::kThreads>();  // both halves are there
    float scores[2][4] = {}, keep[2];
    score_keys(s, s.keys[warp() < kWarps / 2 ? slot : second], scores);
    find_highest(a, s, rows, scores, chunk * kChunk);
    simt::sync_threads<C::kThreads>();
    soften(a, s, rows, scores, keep);
    simt::sync_threads<C::kThreads>();
    rescale(s, rows, keep);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      add_values(s, rows, s.keys[slot], half);
      simt::sync_threads<C::kThreads>();  // and may be overwritten
      halves.load(a, block, walk, s);
      slot = slot + 1 == C::kSlots ? 0 : slot + 1;
    }
    if (C::kSplit && walk.ends_range(chunk)) {
      write_rows(a, block, rows, walk.range_of(chunk), walk.ranges);
      rows.reset();
    }
  }
  C::kSplit ? fold_ranges<4>(a, at, block, walk.ranges) : write_rows(a, block, rows, 0, 1);
}

}  // namespace latents_mma

}  // namespace moepp::cuda
