// From attention to the experts in one pass over the hidden state. A block normalises its tokens in
// shared memory, its warps take the router's rows, and a warp per token gates it. With few tokens,
// in decode, each has a block. The block that ends last sorts the picks, so that one launch does
// all. With many, tiles of tokens share their loads of the router, then a second kernel sorts.
//
// Few tokens are bound by one multiprocessor reading the router. 24 rows of 1536 in f32 are 147 KB,
// 1.3 us at 64 bytes per clock of 1.75 GHz. Sharing the rows out among blocks would take less, but
// a round trip between blocks (0.7 us) before the gating more. A block per token reads them once
// per token. For 64 tokens that is 9.4 MB from L2. A router of more than kMostRouterBytes takes one
// multiprocessor longer than launches of the three ops, which share it out. So does one of more
// experts than a warp has registers for here.
// SASS * norm_and_route: LDG STG LDS STS FFMA SHFL !LDL !STL registers<=224 no-spills
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/gating.cuh"
#include "cuda/kernels/router/rows.cuh"
#include "cuda/last_block.cuh"

namespace moepp::cuda {

namespace {

// rms_norm's block, so that a row's sum of squares has the same bits.
constexpr int kNormThreads = 256, kNormWarps = kNormThreads / 32;
constexpr int kDecodeTokens = 64;
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

template <int TokenCount, int RowCount, int ElementCount>
struct Config {
  static constexpr int kTokens = TokenCount, kRows = RowCount;
  // of one load: 4 where rows are whole fours, else 1
  static constexpr int kElements = ElementCount;
  // a warp for each of 24 rows; for each group of rows
  static constexpr int kThreads = TokenCount == 1 ? 768 : 256;
};

// Shared memory: the tokens' rows, normalised [kTokens, H], then partial sums of squares [kTokens,
// kNormWarps]. The sort starts anew.
template <class C>
size_t tile_bytes(int h) {
  return static_cast<size_t>(C::kTokens) * (static_cast<size_t>(h) + kNormWarps) * sizeof(float);
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

// One block a multiprocessor: for more, the compiler spilled on sm_100 and sm_120.
template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) norm_and_route(NormRoute r) {
  constexpr int N = C::kElements, kWarps = C::kThreads / 32;
  if (r.prefetch) {
    prefetch_weight(r.router.router, static_cast<int64_t>(r.router.e) * r.router.h * 4);
    prefetch_weight(r.router.constant, static_cast<int64_t>(r.router.xs) * r.router.h * 4);
  }
  await_inputs();
  const int h = r.router.h, first = static_cast<int>(blockIdx.x) * C::kTokens,
            count = min(C::kTokens, r.router.tokens - first);
  auto* rows = simt::smem<float>();
  auto* partial = rows + C::kTokens * h;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < kNormWarps) {
    for (int a = 0; a < count; a++) {
      add_row<N>(r, static_cast<int64_t>(first + a) * h, rows + a * h, partial + a * kNormWarps);
    }
  }
  __syncthreads();
  if (warp < kNormWarps) {
    for (int a = 0; a < count; a++) {
      scale_row<N>(r, static_cast<int64_t>(first + a) * h, rows + a * h, partial + a * kNormWarps);
    }
  }
  __syncthreads();
  const int groups =
      (r.router.e + C::kRows - 1) / C::kRows + (r.router.xs + C::kRows - 1) / C::kRows;
  for (int group = warp; group < groups; group += kWarps)
    multiply_group<C>(r.router, row_group<C>(r.router, group), rows, first);
  __syncthreads();
  for (int a = warp; a < count; a += kWarps) gate_token<kLogitsPerLane>(r.routing, first + a);
  if (r.sorts && is_last_block(r.finished, gridDim.x, simt::smem<int>())) sort_picks(r.routing, 0);
}

template <class C>
void launch(const NormRoute& r, CudaQueue& queue) {
  const dim3 grid(static_cast<unsigned>((r.router.tokens + C::kTokens - 1) / C::kTokens));
  const size_t tile = tile_bytes<C>(r.router.h),
               sort = r.sorts ? sort_bytes(r.routing, C::kThreads) : 0;
  queue.launch(norm_and_route<C>, {grid, dim3(C::kThreads), tile > sort ? tile : sort}, r);
}

// The largest tile that gives every multiprocessor one and takes no more shared memory than a block
// has unasked. The router's rows are read once per tile.
template <int N>
void launch_for_tokens(NormRoute& r, CudaQueue& queue) {
  // 8 rows of 1536 and their sums: sm_75 gives up to 64 KB
  constexpr size_t kTileBytes = 49 * 1024;
  const int tokens = r.router.tokens;
  r.sorts = tokens <= kDecodeTokens && tokens * r.routing.k <= Config<1, 1, N>::kThreads &&
            (tokens == 1 || r.finished != nullptr);
  if (!r.sorts && tokens >= 8 * queue.multiprocessors() &&
      tile_bytes<Config<8, 4, N>>(r.router.h) <= kTileBytes) {
    return launch<Config<8, 4, N>>(r, queue);
  }
  if (!r.sorts && tokens >= queue.multiprocessors() &&
      tile_bytes<Config<4, 4, N>>(r.router.h) <= kTileBytes) {
    return launch<Config<4, 4, N>>(r, queue);
  }
  launch<Config<1, 1, N>>(r, queue);
}

}  // namespace

void norm_route_top_k(const NormRouteTopKArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  NormRoute r = {};
  r.router = router_of(args.router);
  const int64_t router_bytes = int64_t{4} * (r.router.e + r.router.xs) * r.router.h;
  if (r.router.e > 32 * kLogitsPerLane || router_bytes > kMostRouterBytes) {
    rms_norm(args.norm, queue);
    router_logits(args.router, queue);
    return route_top_k(args.route, queue);
  }
  r.x = args.norm.x->f32();
  r.delta = args.norm.delta != nullptr ? args.norm.delta->f32() : nullptr;
  r.norm_weight = args.norm.weight->f32();
  r.sum = args.norm.sum != nullptr ? args.norm.sum->f32() : nullptr;
  r.out = args.norm.out->f32();
  r.eps = args.norm.eps;
  r.routing = routing_of(args.route);
  r.finished = stream.counters();
  r.prefetch = stream.prefetches();
  r.router.h % 4 == 0 ? launch_for_tokens<4>(r, stream) : launch_for_tokens<1>(r, stream);
  if (!r.sorts) sort_tokens(r.routing, stream);
}

}  // namespace moepp::cuda
