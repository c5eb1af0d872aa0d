// Attention over a bf16 cache on tensor cores (mma.sync m16n8k16), sm_80 and up. A block has four
// warps of 16 rows. Whole contexts: each has rows of its own. Split ones: all have the same rows,
// and each a quarter of a chunk's keys. They merge what they have, as chunks are merged, where a
// range ends.
//
// A chunk's scores and weights stay in a warp's registers, and so do the sums. The chunk's sums are
// merged into them 16 dimensions at a time. Keys and values of a chunk have one buffer each: the
// next keys are copied while values are multiplied, the next values while keys are.
//
// A value whose weight is 0 is multiplied, too. An infinite or NaN one makes NaN of other rows in
// the same chunk: those before it, and those whose window begins behind it.
#pragma once

#include <climits>

#include "cuda/kernels/attention/split.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace mma {

inline constexpr int kWarps = 4, kThreads = 32 * kWarps;
static_assert(kThreads == kSplitThreads, "the fold takes all");

template <int HeadDim, bool SplitContext>
struct Config {
  static constexpr int kD = HeadDim, kSteps = HeadDim / 16;
  static constexpr bool kSplit = SplitContext;
  // the warps that share a chunk's keys; a warp's keys; a block's rows
  static constexpr int kKeyWarps = kSplit ? kWarps : 1, kKeys = kChunk / kKeyWarps,
                       kRows = 16 * kWarps / kKeyWarps;
  // Rows of an odd number of 16-byte units: eight of them, as ldmatrix reads them, cover each bank
  // once.
  static constexpr int kPitch = (HeadDim / 8 | 1) * 8;

  SIMT_DEVICE static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  SIMT_DEVICE static int first_row() { return warp() / kKeyWarps * 16; }
  SIMT_DEVICE static int first_key() { return warp() % kKeyWarps * kKeys; }
};

template <class C>
struct Smem {
  alignas(128) simt::bf16 keys[kChunk * C::kPitch];
  alignas(128) simt::bf16 values[kChunk * C::kPitch];
  uint4 q[C::kSteps][kThreads];  // each thread's fragments; in registers, D = 128 would spill
  int64_t rows[kChunk];          // where a chunk's keys begin: this one's, then the next one's
  KeyRange ranges[kWarps];
};

// Rows of 64 tokens, at `rows` from `from`; zeros where no row of the block may see them.
template <class C>
SIMT_DEVICE void load_rows(simt::bf16* to, const simt::bf16* from, const int64_t* rows) {
  constexpr int kUnits = C::kD / 8;
#pragma unroll 1
  for (int i = threadIdx.x; i < kChunk * kUnits; i += kThreads) {
    const int key = i / kUnits, unit = i % kUnits;
    const int64_t row = rows[key];
    simt::cp_async_zfill<16>(to + key * C::kPitch + unit * 8,
                             row < 0 ? from : from + row + unit * 8, row < 0 ? 0 : 16);
  }
}

// The 16 rows of a warp. A thread has parts of rows g = lane / 4 and g + 8; fragments as in
// cuda/simt/mma.h.
template <class C>
struct WarpRows {
  int limit[2];    // of its rows
  KeyRange range;  // of the warp's rows
  RowState state[2];
  float sums[2 * C::kSteps][4];  // of dimensions 8 i + 2 (lane % 4) and + 1

  SIMT_DEVICE void load(const Attention& a, const RowBlock& block, Smem<C>& s) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const float* from[2];
    int first = INT_MAX;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = C::first_row() + lane / 4 + 8 * i;
      limit[i] = block.limit(a, row);
      if (row < block.count) first = min(first, a.first_key(limit[i]));
      from[i] = a.q + block.query(a, row < block.count ? row : 0) * C::kD + 2 * (lane % 4);
    }
#pragma unroll 2
    for (int step = 0; step < C::kSteps; step++) {
      s.q[step][threadIdx.x] =
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
    for (int i = 0; i < 2 * C::kSteps; i++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][e] = 0.0f;
    }
  }
  SIMT_DEVICE static uint32_t rounded_pair(const float* p) {
    const float2 pair = *reinterpret_cast<const float2*>(p);
    return simt::pack_bf16(pair.x, pair.y);
  }
};

// scores[n][..]: with the keys 8 n .. 8 n + 7 of the warp's.
template <class C>
SIMT_DEVICE void score_keys(const Smem<C>& s, float (&scores)[C::kKeys / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const simt::bf16* from =
      s.keys + (C::first_key() + lane / 16 * 8 + lane % 8) * C::kPitch + lane / 8 % 2 * 8;
#pragma unroll
  for (int n = 0; n < C::kKeys / 8; n++) {
#pragma unroll
    for (int e = 0; e < 4; e++) scores[n][e] = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < C::kSteps; step++) {
    const uint4 fragment = s.q[step][threadIdx.x];
    const uint32_t q[4] = {fragment.x, fragment.y, fragment.z, fragment.w};
#pragma unroll
    for (int pair = 0; pair < C::kKeys / 16; pair++) {
      uint32_t low[2], high[2];
      simt::ldmatrix_x4(low[0], low[1], high[0], high[1], from + pair * 16 * C::kPitch + step * 16);
      simt::mma_bf16(scores[2 * pair], q, low);
      simt::mma_bf16(scores[2 * pair + 1], q, high);
    }
  }
}

// Scores become weights, as the fragments that multiply the values; m and l of the warp's keys.
template <class C>
SIMT_DEVICE void soften(const Attention& a, const WarpRows<C>& rows,
                        float (&scores)[C::kKeys / 8][4], int first_key,
                        uint32_t (&weights)[C::kKeys / 16][4], float (&m)[2], float (&l)[2]) {
  const float scale = a.scale;
  const int column = first_key + C::first_key() + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    float highest = -INFINITY;
#pragma unroll
    for (int n = 0; n < C::kKeys / 8; n++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& score = scores[n][2 * i + e];
        if (!a.sees(rows.limit[i], column + 8 * n + e)) score = -INFINITY;
        highest = fmaxf(highest, score);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(simt::kFullMask, highest, 2));
    m[i] = highest * scale;
    const float shift = highest == -INFINITY ? 0.0f : m[i];  // nothing seen: weights of 0
    l[i] = 0.0f;
#pragma unroll
    for (int n = 0; n < C::kKeys / 8; n++) {
      const uint32_t pair = simt::pack_bf16(exp2f(fmaf(scores[n][2 * i], scale, -shift)),
                                            exp2f(fmaf(scores[n][2 * i + 1], scale, -shift)));
      const float2 rounded = simt::unpack_bf16(pair);
      l[i] += rounded.x + rounded.y;
      weights[n / 2][n % 2 * 2 + i] = pair;
    }
    l[i] += __shfl_xor_sync(simt::kFullMask, l[i], 1);
    l[i] += __shfl_xor_sync(simt::kFullMask, l[i], 2);
  }
}

// The sums of the warp's keys, merged into the rows'.
template <class C>
SIMT_DEVICE void add_values(const Smem<C>& s, WarpRows<C>& rows,
                            const uint32_t (&weights)[C::kKeys / 16][4], const float (&keep)[2],
                            const float (&add)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const simt::bf16* from = s.values + (C::first_key() + lane % 16) * C::kPitch + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < C::kSteps; step++) {
    float o[2][4] = {};
#pragma unroll
    for (int j = 0; j < C::kKeys / 16; j++) {
      uint32_t low[2], high[2];
      simt::ldmatrix_x4_trans(low[0], low[1], high[0], high[1],
                              from + j * 16 * C::kPitch + step * 16);
      simt::mma_bf16(o[0], weights[j], low);
      simt::mma_bf16(o[1], weights[j], high);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
      rows.sums[2 * step][e] = merged(rows.sums[2 * step][e], keep[e / 2], o[0][e], add[e / 2]);
      rows.sums[2 * step + 1][e] =
          merged(rows.sums[2 * step + 1][e], keep[e / 2], o[1][e], add[e / 2]);
    }
  }
}

// Merges what warps have of the same rows, the later one's into the earlier one's, two by two. In
// the end the first has all. By way of the values' memory, from barrier to barrier.
template <class C>
SIMT_DEVICE void merge_warps(Smem<C>& s, WarpRows<C>& rows) {
  struct Rows {
    float2 states[2][32];
    float4 sums[2 * C::kSteps][32];
  };
  static_assert(kWarps / 2 * sizeof(Rows) <= sizeof s.values, "half of the warps leave theirs");
  const int lane = static_cast<int>(threadIdx.x) % 32, place = C::warp() % C::kKeyWarps;
#pragma unroll
  for (int half = C::kKeyWarps / 2; half > 0; half /= 2) {
    Rows& given = reinterpret_cast<Rows*>(s.values)[place % half];
    simt::sync_threads<kThreads>();
    if (place >= half && place < 2 * half) {
#pragma unroll
      for (int i = 0; i < 2; i++)
        given.states[i][lane] = make_float2(rows.state[i].highest, rows.state[i].total);
#pragma unroll
      for (int n = 0; n < 2 * C::kSteps; n++)
        given.sums[n][lane] =
            make_float4(rows.sums[n][0], rows.sums[n][1], rows.sums[n][2], rows.sums[n][3]);
    }
    simt::sync_threads<kThreads>();
    if (place >= half) continue;
    float keep[2], add[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float2 state = given.states[i][lane];
      merge(rows.state[i], state.x, state.y, &keep[i], &add[i]);
    }
#pragma unroll
    for (int n = 0; n < 2 * C::kSteps; n++) {
      float o[4];
      load_elements(&given.sums[n][lane].x, o);
#pragma unroll
      for (int e = 0; e < 4; e++)
        rows.sums[n][e] = merged(rows.sums[n][e], keep[e / 2], o[e], add[e / 2]);
    }
  }
}

// The warp's rows, or what they have of one range.
template <class C>
SIMT_DEVICE void write_rows(const Attention& a, const RowBlock& block, const WarpRows<C>& rows,
                            int range, int ranges) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = C::first_row() + lane / 4 + 8 * i;
    if (row >= block.count) continue;
    const RowSums to(a, block, row, rows.state[i], range, ranges, lane % 4 == 0);
#pragma unroll
    for (int n = 0; n < 2 * C::kSteps; n++)
      to.store(8 * n + 2 * (lane % 4), {rows.sums[n][2 * i], rows.sums[n][2 * i + 1]});
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
  int chunk = walk.begin();
  if (!walk.has(chunk)) return;
  const auto* keys = static_cast<const simt::bf16*>(a.step.layer);
  const auto* values = keys + a.step.page_size * C::kD;  // of a head's page
  find_keys(a, block, chunk, walk.keys, s.rows);
  simt::sync_threads<kThreads>();
  load_rows<C>(s.keys, keys, s.rows);
  simt::cp_async_commit();
  for (int next; walk.has(chunk); chunk = next) {
    next = walk.after(chunk);
    load_rows<C>(s.values, values, s.rows);
    simt::cp_async_commit();
    simt::cp_async_wait<1>();
    simt::sync_threads<kThreads>();  // the keys are there, and the values on their way
    if (walk.has(next)) find_keys(a, block, next, walk.keys, s.rows);
    const bool seen = rows.range.has(chunk);
    float scores[C::kKeys / 8][4], m[2], l[2], keep[2], add[2];
    uint32_t weights[C::kKeys / 16][4];
    if (seen) score_keys(s, scores);
    simt::sync_threads<kThreads>();  // and may be overwritten
    if (walk.has(next)) load_rows<C>(s.keys, keys, s.rows);
    simt::cp_async_commit();
    if (seen) {
      soften(a, rows, scores, chunk * kChunk, weights, m, l);
#pragma unroll
      for (int i = 0; i < 2; i++) merge(rows.state[i], m[i], l[i], &keep[i], &add[i]);
    }
    simt::cp_async_wait<1>();
    simt::sync_threads<kThreads>();  // the values are there
    if (seen) add_values(s, rows, weights, keep, add);
    if (C::kSplit && walk.ends_range(chunk)) {
      merge_warps(s, rows);
      if (C::warp() == 0) write_rows(a, block, rows, walk.range_of(chunk), walk.ranges);
      rows.reset();
    }
    simt::sync_threads<kThreads>();  // and may be overwritten
  }
  C::kSplit ? fold_ranges<4>(a, at, block, walk.ranges) : write_rows(a, block, rows, 0, 1);
}

// Shared memory of a block whose context is split.
inline size_t split_smem_bytes(const Attention& a) {
  switch (a.step.key_dim) {
    case 64:
      return sizeof(Smem<Config<64, true>>);
    case 80:
      return sizeof(Smem<Config<80, true>>);
    case 96:
      return sizeof(Smem<Config<96, true>>);
    case 112:
      return sizeof(Smem<Config<112, true>>);
    default:
      return sizeof(Smem<Config<128, true>>);
  }
}

}  // namespace mma

}  // namespace moepp::cuda
