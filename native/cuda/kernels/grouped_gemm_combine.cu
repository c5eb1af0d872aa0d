// A token's second product, streamed, and the sum of its experts (combine/then_combine.cuh). For
// more tokens the two ops run one after the other: one block would take longer than a launch.
// SASS * multiply_streamed: LDG FFMA SHFL LDS STS !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/combine/then_combine.cuh"
#include "cuda/kernels/kernels.h"

namespace moepp::cuda {

void grouped_gemm_combine(const GroupedGemmCombineArgs& args, Queue& queue) {
  CudaQueue& to = CudaQueue::from(queue);
  const Gemm g = gemm_of(args.gemm);
  stream::ThenCombine then = {};
  then.rows = combined_rows(args.combine, to);
  then.arrived = to.counters();
  const size_t bytes = combine_bytes(then.rows, stream::kThreads);
  if (then.arrived == nullptr || then.rows.h % 4 != 0 || bytes > stream::kMostBytes ||
      !stream::takes_epilogue(g, to)) {
    grouped_gemm(args.gemm, queue);
    return combine(args.combine, queue);
  }
  stream::launch_with(g, to, then, bytes);
}

}  // namespace moepp::cuda
