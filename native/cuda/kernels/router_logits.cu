// Dot products of tokens with the router's rows and the constant experts' rows. A warp takes a few tokens times a few rows; its
// lanes share out the columns. Each (token, row) has one partial sum per lane, to which the residual map's terms are added, and
// the lanes are summed at the end: the same steps whatever else is in the tile, so a token does not depend on the others.
// The warps of a block read the same tokens at the same time, so that x comes from memory once; the weights come from L2.
// SASS * router_rows: LDG FFMA SHFL !LDL !STL registers<=192 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kMostWarps = 8;

struct Router {
  const float *x, *hidden, *previous, *router, *map, *constant;
  float *logits, *scores;
  int tokens, h, g, e, xs;  // xs: rows of the constant experts
};

// Rows [first, first + count) of one of the two weights: the router's, or the constant experts'.
struct RowGroup {
  const float *z, *weight, *map;
  float* out;
  int width, first, count, stride;
};

template <class C>
SIMT_DEVICE RowGroup row_group(const Router& r, int group) {
  const int router_groups = (r.e + C::kRows - 1) / C::kRows;
  if (group < router_groups) {
    const int first = group * C::kRows;
    return {r.hidden != nullptr ? r.hidden : r.x, r.router, r.map, r.logits, r.g, first, min(C::kRows, r.e - first), r.e};
  }
  const int first = (group - router_groups) * C::kRows;
  return {r.x, r.constant, nullptr, r.scores, r.h, first, min(C::kRows, r.xs - first), r.xs};
}

template <int TokenCount, int RowCount, int ElementCount>
struct Config {
  static constexpr int kTokens = TokenCount, kRows = RowCount;
  static constexpr int kElements = ElementCount;  // of one load: 4 where rows of x and hidden are whole fours, else 1
};

// sums += z[t] . weight[row] over the lane's columns: N neighbours, then those 32 N further on. Tokens and rows past the last
// repeat it, so that nothing branches.
template <class C, int N>
SIMT_DEVICE void multiply(const float* z, const float* weight, int width, const int (&t)[C::kTokens], const int (&row)[C::kRows],
                          float (&sums)[C::kTokens][C::kRows]) {
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x) % 32 * N; i < width; i += 32 * N) {
    float w[C::kRows][N];
#pragma unroll
    for (int b = 0; b < C::kRows; b++) load_elements(weight + static_cast<int64_t>(row[b]) * width + i, w[b]);
#pragma unroll
    for (int a = 0; a < C::kTokens; a++) {
      float v[N];
      load_elements(z + static_cast<int64_t>(t[a]) * width + i, v);
#pragma unroll
      for (int b = 0; b < C::kRows; b++) {
#pragma unroll
        for (int n = 0; n < N; n++) sums[a][b] = fmaf(v[n], w[b][n], sums[a][b]);
      }
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kMostWarps * 32) router_rows(Router r, int groups) {
  const int group = static_cast<int>(blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32);
  if (group >= groups) return;
  const int first = static_cast<int>(blockIdx.x) * C::kTokens, lane = static_cast<int>(threadIdx.x) % 32;
  const RowGroup rows = row_group<C>(r, group);
  int t[C::kTokens], row[C::kRows];
#pragma unroll
  for (int a = 0; a < C::kTokens; a++) t[a] = min(first + a, r.tokens - 1);
#pragma unroll
  for (int b = 0; b < C::kRows; b++) row[b] = rows.first + min(b, rows.count - 1);
  float sums[C::kTokens][C::kRows] = {};
  multiply<C, C::kElements>(rows.z, rows.weight, rows.width, t, row, sums);
  if (rows.map != nullptr) multiply<C, 1>(r.previous, rows.map, r.e, t, row, sums);
#pragma unroll
  for (int a = 0; a < C::kTokens; a++) {
#pragma unroll
    for (int b = 0; b < C::kRows; b++) {
      const float sum = warp_sum(sums[a][b]);
      if (lane == 0 && first + a < r.tokens && b < rows.count) {
        rows.out[static_cast<int64_t>(t[a]) * rows.stride + row[b]] = sum;
      }
    }
  }
}

template <class C>
simt::Error route(const Router& r, simt::Stream stream) {
  const int groups = (r.e + C::kRows - 1) / C::kRows + (r.xs + C::kRows - 1) / C::kRows;
  const int warps = min(groups, kMostWarps);
  const simt::Launch how = {
      dim3(static_cast<unsigned>((r.tokens + C::kTokens - 1) / C::kTokens), static_cast<unsigned>((groups + warps - 1) / warps)),
      dim3(static_cast<unsigned>(warps) * 32), 0, stream};
  return simt::launch(router_rows<C>, how, r, groups);
}

// Few tokens: as many warps as there are dot products. Many: tiles that reuse what they load, as soon as they fill the device.
template <int N>
simt::Error route_tokens(const Router& r, const CudaQueue& queue) {
  if (r.tokens >= 8 * 4 * queue.multiprocessors()) return route<Config<8, 4, N>>(r, queue.stream());
  if (r.tokens >= queue.multiprocessors()) return route<Config<4, 4, N>>(r, queue.stream());
  return route<Config<1, 1, N>>(r, queue.stream());
}

}  // namespace

void router_logits(const RouterLogitsArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  Router r = {};
  r.x = args.x->f32();
  r.hidden = args.hidden != nullptr ? args.hidden->f32() : nullptr;
  r.previous = args.previous_logits != nullptr ? args.previous_logits->f32() : nullptr;
  r.router = args.router->f32();
  r.map = args.residual_map != nullptr ? args.residual_map->f32() : nullptr;
  r.constant = args.constant_router->f32();
  r.logits = args.logits->f32();
  r.scores = args.constant_scores->f32();
  r.tokens = static_cast<int>(args.x->shape[0]);
  r.h = static_cast<int>(args.x->shape[1]);
  r.g = static_cast<int>(args.router->shape[1]);
  r.e = static_cast<int>(args.logits->shape[1]);
  r.xs = static_cast<int>(args.constant_scores->shape[1]);
  stream.check(r.h % 4 == 0 && r.g % 4 == 0 ? route_tokens<4>(r, stream) : route_tokens<1>(r, stream));
}

}  // namespace moepp::cuda
