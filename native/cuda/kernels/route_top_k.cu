// Gating by one warp per token, then the sort (router/gating.cuh). Few tokens of up to 256 experts:
// one block does both. Else two kernels.
// SASS * gate_and_sort: SHFL !LDL !STL registers<=72 no-spills
// SASS * route_rows: SHFL !LDL !STL no-spills
// SASS * sort_rows: !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/gating.cuh"

namespace moepp::cuda {

namespace {

// gated and sorted by one block, with a thread for each pick
constexpr int kOneBlockTokens = 64, kOneBlockThreads = 896;  // more would spill on sm_120
constexpr int kMostThreads = 1024;
constexpr int kGateWarps = 8;
constexpr int kOneBlockLogits = 8;  // of a lane, up to 256 experts: more spill in a block so large
// A block has so much shared memory without asking.
constexpr size_t kSortBytes = 48 * 1024;

__global__ void __launch_bounds__(kOneBlockThreads) gate_and_sort(Routing r) {
  await_inputs();
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int t = static_cast<int>(threadIdx.x) / 32; t < r.tokens; t += warps)
    gate_token<kOneBlockLogits>(r, t);
  __syncthreads();
  sort_picks(r, 0);
}

template <int L>
__global__ void __launch_bounds__(kGateWarps * 32) route_rows(Routing r) {
  await_inputs();
  const int t = static_cast<int>(blockIdx.x) * kGateWarps + static_cast<int>(threadIdx.x) / 32;
  if (t < r.tokens) gate_token<L>(r, t);
}

__global__ void __launch_bounds__(kMostThreads) sort_rows(Routing r) {
  await_inputs();
  sort_picks(r, static_cast<int>(blockIdx.x * blockDim.x));
}

int whole_warps(int threads) {
  return (threads + 31) / 32 * 32;
}

template <int L>
void gate(const Routing& r, CudaQueue& queue) {
  queue.launch(route_rows<L>,
               {dim3(static_cast<unsigned>((r.tokens + kGateWarps - 1) / kGateWarps)),
                dim3(kGateWarps * 32)},
               r);
}

}  // namespace

void sort_tokens(const Routing& r, CudaQueue& queue) {
  const int picks = r.tokens * r.k;
  int threads = whole_warps(min(kMostThreads, max(picks, 1)));
  while (sort_bytes(r, threads) > kSortBytes) threads = whole_warps(threads / 2);
  const dim3 grid(static_cast<unsigned>((picks + threads - 1) / threads));
  queue.launch(sort_rows, {grid, dim3(static_cast<unsigned>(threads)), sort_bytes(r, threads)}, r);
}

void route_top_k(const RouteTopKArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Routing r = routing_of(args);
  const int threads = whole_warps(min(kOneBlockThreads, max(r.tokens, 1) * 32));
  if (r.e <= 32 * kOneBlockLogits && r.tokens <= kOneBlockTokens && r.tokens * r.k <= threads) {
    return stream.launch(
        gate_and_sort, {dim3(1), dim3(static_cast<unsigned>(threads)), sort_bytes(r, threads)}, r);
  }
  if (r.e <= 32 * kOneBlockLogits) {
    gate<kOneBlockLogits>(r, stream);
  } else if (r.e <= 512) {
    gate<16>(r, stream);
  } else {
    gate<32>(r, stream);
  }
  sort_tokens(r, stream);
}

}  // namespace moepp::cuda
