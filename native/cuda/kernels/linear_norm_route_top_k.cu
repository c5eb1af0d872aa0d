// A token's output projection of attention, streamed, and the way to the experts
// (router/then_route.cuh). For more tokens the two ops run one after the other: one block would
// take longer than a launch.
// SASS * multiply_streamed: LDG FFMA SHFL LDS STS !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/then_route.cuh"

namespace moepp::cuda {

void linear_norm_route_top_k(const LinearNormRouteTopKArgs& args, Queue& queue) {
  CudaQueue& to = CudaQueue::from(queue);
  const Gemm g = gemm_of(args.linear);
  stream::ThenRoute then = {};
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
