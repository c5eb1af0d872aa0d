// A token's output projection of attention, streamed (grouped_gemm/stream.cuh). The block that ends
// last goes on to the experts: residual sum, norm, router, gating, sort. The others have nothing to
// do meanwhile, and ask L2 for the next layer's projection. For more tokens the two ops run one
// after the other: one block would take longer than a launch.
// SASS * multiply_streamed: LDG FFMA SHFL LDS STS !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/grouped_gemm/stream.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/norm_route.cuh"
#include "cuda/last_block.cuh"

namespace moepp::cuda {

namespace {

struct ThenRoute : stream::Columns {
  static constexpr int kBlocks = 2;
  NormRoute r;
  WeightAhead ahead;

  // As many rows of the router are on their way as with a warp for each (norm_route_top_k.cu).
  struct Tile {
    static constexpr int kTokens = 1, kRows = 4, kElements = 4, kThreads = stream::kThreads;
  };

  SIMT_DEVICE void prefetch() const { prefetch_router(r.router); }
  SIMT_DEVICE void finish() const {
    if (is_last_block(r.finished, gridDim.x * gridDim.y, simt::smem<int>()))
      route_tile<Tile>(r, 0);
    else
      ask_for_weight(ahead.data, ahead.bytes);
  }
};

}  // namespace

void linear_norm_route_top_k(const LinearNormRouteTopKArgs& args, Queue& queue) {
  CudaQueue& to = CudaQueue::from(queue);
  const Gemm g = gemm_of(args.linear);
  ThenRoute then = {};
  then.r = norm_route_of(args.rest, to);
  then.ahead = to.ahead();
  const size_t bytes = tile_bytes(1, then.r.router);
  if (then.r.finished == nullptr || then.r.router.h % 4 != 0 || bytes > stream::kMostBytes ||
      !fits_a_block(then.r.router) || !stream::takes_epilogue(g, to)) {
    linear(args.linear, queue);
    return norm_route_top_k(args.rest, queue);
  }
  stream::launch_with(g, to, then, bytes);
}

}  // namespace moepp::cuda
