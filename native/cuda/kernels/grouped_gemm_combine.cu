// A token's second product, streamed (grouped_gemm/stream.cuh). The block that ends last sums the
// token's experts, and norms the sum. For more tokens the two ops run one after the other: one
// block would take longer than a launch.
// SASS * multiply_streamed: LDG FFMA SHFL LDS STS !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/combine/row.cuh"
#include "cuda/kernels/grouped_gemm/stream.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/last_block.cuh"

namespace moepp::cuda {

namespace {

struct ThenCombine : stream::Columns {
  static constexpr int kBlocks = 2;
  CombinedRows rows;
  unsigned* arrived;

  SIMT_DEVICE void prefetch() const { prefetch_combine(rows); }
  SIMT_DEVICE void finish() const {
    if (is_last_block(arrived, gridDim.x * gridDim.y, simt::smem<int>()))
      combine_row<4, stream::kThreads>(rows, 0);
  }
};

}  // namespace

void grouped_gemm_combine(const GroupedGemmCombineArgs& args, Queue& queue) {
  CudaQueue& to = CudaQueue::from(queue);
  const Gemm g = gemm_of(args.gemm);
  ThenCombine then = {};
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
