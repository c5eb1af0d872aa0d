// Residual sum, RMSNorm, router and gating of a tile of tokens, by one block. A block normalises
// its tokens in shared memory, its warps take the router's rows, and a warp per token gates it.
//
// C::kTokens tokens and C::kRows rows of the router make up a warp's tile; C::kElements are loaded
// at once: 4 where rows are whole fours, else 1. C::kThreads: the block's, at least kNormThreads.
#pragma once

#include "cuda/kernels/router/gating.cuh"
#include "cuda/kernels/router/rows.cuh"

namespace moepp::cuda {

// rms_norm's block, so that a row's sum of squares has the same bits.
constexpr int kNormThreads = 256, kNormWarps = kNormThreads / 32;
constexpr int kLogitsPerLane = 8;                 // E up to 256
constexpr int64_t kMostRouterBytes = 320 * 1024;  // 3 us at 64 bytes per clock; two launches

struct NormRoute {
  const float *x, *delta, *norm_weight;
  float *sum, *out;
  float eps;
  Router router;
  Routing routing;
  unsigned* finished;  // blocks that have gated their tokens
  bool sorts, prefetch;
};

// Shared memory: the tokens' rows, normalised [tokens, H], partial sums of squares [tokens,
// kNormWarps], logits [tokens, E] and constant scores. The sort of many picks starts anew.
inline size_t tile_bytes(int tokens, const Router& r) {
  return static_cast<size_t>(tokens) * static_cast<size_t>(r.h + kNormWarps + r.e + r.xs) *
         sizeof(float);
}

// sum = x + delta, or x, to memory and to `row`; the warp's part of the sum of squares to
// `partial`. By the first kNormThreads.
template <int N>
SIMT_DEVICE void add_row(const NormRoute& r, int64_t first, float* row, float* partial) {
  float squares = 0.0f;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) * N; i < r.router.h; i += kNormThreads * N) {
    float v[N], delta[N];
    load_elements(r.x + first + i, v);
    if (r.delta != nullptr) {
      load_elements(r.delta + first + i, delta);
#pragma unroll
      for (int e = 0; e < N; e++) v[e] = v[e] + delta[e];
    }
#pragma unroll
    for (int e = 0; e < N; e++) squares = fmaf(v[e], v[e], squares);
    if (r.sum != nullptr) store_elements(r.sum + first + i, v);
    store_elements(row + i, v);
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = squares;
}

// The output of the same threads there.
template <int N>
SIMT_DEVICE void scale_row(const NormRoute& r, int64_t first, float* row, const float* partial) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float mean =
      warp_sum(lane < kNormWarps ? partial[lane] : 0.0f) / static_cast<float>(r.router.h);
  const float scale = 1.0f / sqrtf(mean + r.eps);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) * N; i < r.router.h; i += kNormThreads * N) {
    float v[N], w[N];
    load_elements(row + i, v);
    load_elements(r.norm_weight + i, w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = v[e] * scale * w[e];
    store_elements(row + i, v);
    store_elements(r.out + first + i, v);
  }
}

// By all threads of a block.
template <int kThreads>
SIMT_DEVICE void copy_scores(const float* from, float* to, int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) to[i] = from[i];
}

// Asks L2 for the router, before await_inputs().
SIMT_DEVICE void prefetch_router(const Router& r) {
  prefetch_weight(r.router, static_cast<int64_t>(r.e) * r.h * 4);
  prefetch_weight(r.constant, static_cast<int64_t>(r.xs) * r.h * 4);
}

// The tokens from `first` on. A token alone is sorted, too.
template <class C>
SIMT_DEVICE void route_tile(const NormRoute& r, int first) {
  constexpr int N = C::kElements, kWarps = C::kThreads / 32;
  const int h = r.router.h, e = r.router.e, xs = r.router.xs,
            count = min(C::kTokens, r.router.tokens - first);
  auto* rows = simt::smem<float>();
  auto* partial = rows + C::kTokens * h;
  const TileScores tile = {partial + C::kTokens * kNormWarps,
                           partial + C::kTokens * (kNormWarps + e)};
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < kNormWarps) {
    for (int a = 0; a < count; a++) {
      add_row<N>(r, static_cast<int64_t>(first + a) * h, rows + a * h, partial + a * kNormWarps);
    }
  }
  simt::sync_threads<C::kThreads>();
  if (warp < kNormWarps) {
    for (int a = 0; a < count; a++) {
      scale_row<N>(r, static_cast<int64_t>(first + a) * h, rows + a * h, partial + a * kNormWarps);
    }
  }
  simt::sync_threads<C::kThreads>();
  const int groups = (e + C::kRows - 1) / C::kRows + (xs + C::kRows - 1) / C::kRows;
  for (int group = warp; group < groups; group += kWarps)
    multiply_group<C>(r.router, row_group<C>(r.router, group, tile), rows, first);
  simt::sync_threads<C::kThreads>();
  for (int a = warp; a < count; a += kWarps) {
    const int number =
        gate_token<kLogitsPerLane>(r.routing, first + a, tile.logits, tile.scores, a);
    if (r.router.tokens == 1) sort_few(r.routing, number);
  }
  copy_scores<C::kThreads>(tile.logits, r.router.logits + static_cast<int64_t>(first) * e,
                           count * e);
  copy_scores<C::kThreads>(tile.scores, r.router.scores + static_cast<int64_t>(first) * xs,
                           count * xs);
}

// True if one block does not read the router longer than launches of the three ops take, and has
// registers for the logits.
inline bool fits_a_block(const Router& r) {
  return r.e <= 32 * kLogitsPerLane && int64_t{4} * (r.e + r.xs) * r.h <= kMostRouterBytes;
}

inline NormRoute norm_route_of(const NormRouteTopKArgs& args, const CudaQueue& queue) {
  NormRoute r = {};
  r.router = router_of(args.router);
  r.x = args.norm.x->f32();
  r.delta = args.norm.delta != nullptr ? args.norm.delta->f32() : nullptr;
  r.norm_weight = args.norm.weight->f32();
  r.sum = args.norm.sum != nullptr ? args.norm.sum->f32() : nullptr;
  r.out = args.norm.out->f32();
  r.eps = args.norm.eps;
  r.routing = routing_of(args.route);
  r.finished = queue.counters();
  r.prefetch = queue.prefetches();
  return r;
}

}  // namespace moepp::cuda
