// The router alone (router/rows.cuh): its input is normalised already, or is the hidden layer of a
// two-layer router. The warps of a block read the same tokens at the same time, so that x comes
// from memory once; the weights come from L2.
// SASS * router_rows: LDG FFMA SHFL !LDL !STL registers<=192 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/rows.cuh"

namespace moepp::cuda {

namespace {

constexpr int kMostWarps = 8;

template <int TokenCount, int RowCount, int ElementCount>
struct Config {
  static constexpr int kTokens = TokenCount, kRows = RowCount;
  // of one load: 4 where rows of x and hidden are whole fours, else 1
  static constexpr int kElements = ElementCount;
};

template <class C>
__global__ void __launch_bounds__(kMostWarps * 32) router_rows(Router r, int groups) {
  await_inputs();
  const int group = static_cast<int>(blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32);
  if (group >= groups) return;
  const int first = static_cast<int>(blockIdx.x) * C::kTokens;
  const int64_t from = first;
  const RowGroup rows = row_group<C>(r, group, {r.logits + from * r.e, r.scores + from * r.xs});
  multiply_group<C>(r, rows, rows.z + static_cast<int64_t>(first) * rows.width, first);
}

template <class C>
void route(const Router& r, CudaQueue& queue) {
  const int groups = count_groups(r, C::kRows), warps = min(groups, kMostWarps);
  const dim3 grid(static_cast<unsigned>((r.tokens + C::kTokens - 1) / C::kTokens),
                  static_cast<unsigned>((groups + warps - 1) / warps));
  queue.launch(router_rows<C>, {grid, dim3(static_cast<unsigned>(warps) * 32)}, r, groups);
}

// Few tokens: as many warps as there are dot products. Many: tiles that reuse what they load, as
// soon as they fill the device.
template <int N>
void route_tokens(const Router& r, CudaQueue& queue) {
  if (r.tokens >= 8 * 4 * queue.multiprocessors()) return route<Config<8, 4, N>>(r, queue);
  if (r.tokens >= queue.multiprocessors()) return route<Config<4, 4, N>>(r, queue);
  route<Config<1, 1, N>>(r, queue);
}

}  // namespace

void router_logits(const RouterLogitsArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Router r = router_of(args);
  r.h % 4 == 0 && r.g % 4 == 0 ? route_tokens<4>(r, stream) : route_tokens<1>(r, stream);
}

}  // namespace moepp::cuda
