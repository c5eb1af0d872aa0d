// Attention in f32 FMAs, for a cache of either type and any even head dims. A block of 4 warps has
// 16 rows, 4 per warp. Scores: a lane has a key, and walks through the dimensions in ascending
// order. Sums: a lane has every 32nd dimension, and walks through the keys in ascending order.
// Keys, then values, pass through one buffer, which holds a slice of the dimensions of half a
// chunk. Heads have one slice of 128 dimensions or 256, latents several of 128.
#pragma once

#include <climits>

#include "cuda/kernels/attention/split.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace f32 {

inline constexpr int kThreads = 128, kWarpRows = 4, kRows = 16, kHalf = kChunk / 2;
static_assert(kThreads == kSplitThreads && kRows == kSplitRows, "of a block, in either way");

template <class CacheType, int DimCount, bool SplitContext, int SliceCount = 1>
struct Config {
  using E = CacheType;
  static constexpr int kDims = DimCount;  // of a lane and a slice
  static constexpr int kSlices = SliceCount, kSlice = 32 * kDims;
  // an odd number of 16-byte units: lanes with a row each cover all banks
  static constexpr int kPitch = kSlice + 4, kQueryPitch = kSlices * kSlice + 4;
  static constexpr bool kSplit = SplitContext;
};

template <class C>
struct Smem {
  alignas(16) float q[kRows][C::kQueryPitch];
  alignas(16) float tile[kHalf][C::kPitch];
  alignas(16) float weights[kRows][kChunk];
  int64_t rows[kChunk], value_rows[kChunk];
  KeyRange ranges[kThreads / 32];
};

SIMT_DEVICE float2 load_pair(const float* p) {
  return *reinterpret_cast<const float2*>(p);
}
SIMT_DEVICE float2 load_pair(const simt::bf16* p) {
  return simt::unpack_bf16(*reinterpret_cast<const uint32_t*>(p));
}

// A slice of the rows of half a chunk, from dimension `first` on, of d. Zeros where no row of the
// block may see them, and up to a multiple of 4 dimensions.
template <class C>
SIMT_DEVICE void load_tile(Smem<C>& s, const typename C::E* from, const int64_t* rows, int first,
                           int d) {
  const int end = min(d - first, C::kSlice);
  for (int key = static_cast<int>(threadIdx.x) / 32; key < kHalf; key += kThreads / 32) {
    const int64_t row = rows[key];
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x) % 32 * 2; i < (end + 3) / 4 * 4; i += 64) {
      const float2 pair =
          row >= 0 && i < end ? load_pair(from + row + first + i) : make_float2(0.0f, 0.0f);
      *reinterpret_cast<float2*>(&s.tile[key][i]) = pair;
    }
  }
}

// The 4 rows of a warp: all lanes hold the same limits and states.
template <class C>
struct WarpRows {
  int limit[kWarpRows];
  KeyRange range;
  RowState state[kWarpRows];
  float sums[kWarpRows][C::kSlices * C::kDims];  // of dimensions lane, lane + 32, ...

  SIMT_DEVICE static int first_row() { return static_cast<int>(threadIdx.x) / 32 * kWarpRows; }
  SIMT_DEVICE void load(const Attention& a, const RowBlock& block, Smem<C>& s) {
    const int d = a.step.key_dim;
    range = {INT_MAX, 0};
#pragma unroll
    for (int r = 0; r < kWarpRows; r++) {
      const int row = first_row() + r;
      limit[r] = block.limit(a, row);
      if (row < block.count)
        range = {min(range.first, a.first_key(limit[r])), max(range.limit, limit[r])};
      for (int i = static_cast<int>(threadIdx.x) % 32; i < (d + 3) / 4 * 4; i += 32) {
        s.q[row][i] = row < block.count && i < d ? a.q[block.query(a, row) * d + i] : 0.0f;
      }
    }
    reset();
  }
  SIMT_DEVICE void reset() {
#pragma unroll
    for (int r = 0; r < kWarpRows; r++) {
      state[r] = RowState();
#pragma unroll
      for (int j = 0; j < C::kSlices * C::kDims; j++) sums[r][j] = 0.0f;
    }
  }
};

// scores[r] += q[r] . key of the lane, over the slice from `first` on.
template <class C>
SIMT_DEVICE void score_keys(const Smem<C>& s, int first, int d, float (&scores)[kWarpRows]) {
  const int row = WarpRows<C>::first_row();
  const float* key = s.tile[threadIdx.x % 32];
#pragma unroll 2
  for (int i = 0; i < min(d - first, C::kSlice); i += 4) {
    const float4 k = *reinterpret_cast<const float4*>(key + i);
#pragma unroll
    for (int r = 0; r < kWarpRows; r++) {
      const float4 q = *reinterpret_cast<const float4*>(&s.q[row + r][first + i]);
      scores[r] = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, scores[r]))));
    }
  }
}

// Scores with the lane's two keys become weights; the chunk's m and l are merged in.
template <class C>
SIMT_DEVICE void soften(const Attention& a, Smem<C>& s, WarpRows<C>& rows,
                        float (&scores)[2][kWarpRows], int first_key, float (&keep)[kWarpRows],
                        float (&add)[kWarpRows]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < kWarpRows; r++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (!a.sees(rows.limit[r], first_key + half * kHalf + lane)) scores[half][r] = -INFINITY;
    }
    const float highest = warp_max(fmaxf(scores[0][r], scores[1][r]));
    // nothing seen: weights of 0
    const float m = highest * a.scale, shift = highest == -INFINITY ? 0.0f : m;
    float l = 0.0f;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const float weight = exp2f(fmaf(scores[half][r], a.scale, -shift));
      s.weights[rows.first_row() + r][half * kHalf + lane] = weight;
      l += weight;
    }
    merge(rows.state[r], m, warp_sum(l), &keep[r], &add[r]);
  }
  __syncwarp();
}

// o += weight * value over half a chunk. A value that a row does not see is never multiplied: it
// may be anything.
template <class C>
SIMT_DEVICE void add_values(const Attention& a, const Smem<C>& s, const WarpRows<C>& rows,
                            int first_key, int half, float (&o)[kWarpRows][C::kDims]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, first = first_key + half * kHalf;
  const int last = min(kHalf, rows.range.limit - first);
  for (int key = max(0, rows.range.first - first) / 4 * 4; key < last; key += 4) {
    float4 weights[kWarpRows];
#pragma unroll
    for (int r = 0; r < kWarpRows; r++) {
      weights[r] =
          *reinterpret_cast<const float4*>(&s.weights[rows.first_row() + r][half * kHalf + key]);
    }
#pragma unroll
    for (int u = 0; u < 4; u++) {
      float v[C::kDims];
#pragma unroll
      for (int j = 0; j < C::kDims; j++) v[j] = s.tile[key + u][lane + 32 * j];
#pragma unroll
      for (int r = 0; r < kWarpRows; r++) {
        if (!a.sees(rows.limit[r], first + key + u)) continue;
        const float weight = u == 0   ? weights[r].x
                             : u == 1 ? weights[r].y
                             : u == 2 ? weights[r].z
                                      : weights[r].w;
#pragma unroll
        for (int j = 0; j < C::kDims; j++) o[r][j] = fmaf(weight, v[j], o[r][j]);
      }
    }
  }
}

// The warp's rows, or what they have of one range.
template <class C>
SIMT_DEVICE void write_rows(const Attention& a, const RowBlock& block, const WarpRows<C>& rows,
                            int range, int ranges) {
#pragma unroll
  for (int r = 0; r < kWarpRows; r++) {
    const int row = rows.first_row() + r;
    if (row >= block.count) continue;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const RowSums to(a, block, row, rows.state[r], range, ranges, lane == 0);
#pragma unroll
    for (int j = 0; j < C::kSlices * C::kDims; j++)
      if (lane + 32 * j < a.step.value_dim) to.store(lane + 32 * j, {rows.sums[r][j]});
  }
}

// Scores, weights and sums of one chunk for the rows of the block.
template <class C>
SIMT_DEVICE void attend_chunk(const Attention& a, Smem<C>& s, WarpRows<C>& rows, int first_key) {
  const int d = a.step.key_dim;
  const auto* cache = static_cast<const typename C::E*>(a.step.layer);
  const bool seen = rows.range.has(first_key / kChunk);
  float scores[2][kWarpRows] = {}, keep[kWarpRows], add[kWarpRows];
#pragma unroll
  for (int half = 0; half < 2; half++) {
#pragma unroll 1
    for (int first = 0; first < d; first += C::kSlice) {
      simt::sync_threads<kThreads>();
      load_tile(s, cache, s.rows + half * kHalf, first, d);
      simt::sync_threads<kThreads>();
      if (seen) score_keys(s, first, d, scores[half]);
    }
  }
  if (seen) soften(a, s, rows, scores, first_key, keep, add);
#pragma unroll
  for (int slice = 0; slice < C::kSlices; slice++) {
    if (slice * C::kSlice >= a.step.value_dim) break;
    float o[kWarpRows][C::kDims] = {};
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
      simt::sync_threads<kThreads>();
      load_tile(s, cache, s.value_rows + half * kHalf, slice * C::kSlice, a.step.value_dim);
      simt::sync_threads<kThreads>();
      if (seen) add_values(a, s, rows, first_key, half, o);
    }
    if (!seen) continue;
#pragma unroll
    for (int r = 0; r < kWarpRows; r++) {
#pragma unroll
      for (int j = 0; j < C::kDims; j++) {
        float& sum = rows.sums[r][slice * C::kDims + j];
        sum = merged(sum, keep[r], o[r][j], add[r]);
      }
    }
  }
}

template <class C>
SIMT_DEVICE void attend_rows(const Attention& a, const SplitPlace& at) {
  auto& s = *simt::smem<Smem<C>>();
  RowBlock block;
  if (!(C::kSplit ? find_split(a, at, &block) : find_whole<kRows>(a, &block))) return;
  WarpRows<C> rows;
  rows.load(a, block, s);
  const ChunkWalk<C::kSplit> walk(a, at, block_range(rows.range, s.ranges));
  if (!walk.has(walk.begin())) return;
  for (int chunk = walk.begin(); walk.has(chunk); chunk = walk.after(chunk)) {
    simt::sync_threads<kThreads>();  // the last chunk's rows have been read
    find_keys(a, block, chunk, walk.keys, s.rows);
    find_values(a, block, chunk, walk.keys, s.value_rows);
    attend_chunk(a, s, rows, chunk * kChunk);
    if (C::kSplit && walk.ends_range(chunk)) {
      write_rows(a, block, rows, walk.range_of(chunk), walk.ranges);
      rows.reset();
    }
  }
  C::kSplit ? fold_ranges<2>(a, at, block, walk.ranges) : write_rows(a, block, rows, 0, 1);
}

// Of the launches: if a lane has 8 dimensions and not 4; shared memory of a block.
SIMT_HOST_DEVICE bool is_wide(const Attention& a) {
  return max(a.step.key_dim, a.step.value_dim) > 128;
}
inline size_t smem_bytes(const Attention& a) {
  return is_wide(a) ? sizeof(Smem<Config<float, 8, true>>) : sizeof(Smem<Config<float, 4, true>>);
}

}  // namespace f32

}  // namespace moepp::cuda
