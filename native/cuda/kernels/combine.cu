// One block per token. Bound by memory.
// SASS * combine_rows: LDG STG LDS STS SHFL !LDL !STL registers<=64 no-spills
#include "cuda/kernels/combine/row.cuh"
#include "cuda/kernels/kernels.h"

namespace moepp::cuda {

namespace {

// That of grouped_gemm_combine, so that the norm has the same bits.
constexpr int kThreads = 256;

template <int N>
__global__ void __launch_bounds__(kThreads) combine_rows(CombinedRows r) {
  if (r.prefetch) prefetch_combine(r);
  await_inputs();
  combine_row<N, kThreads>(r, blockIdx.x);
}

}  // namespace

void combine(const CombineArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const CombinedRows r = combined_rows(args, stream);
  const simt::Launch how = {dim3(static_cast<unsigned>(args.x->shape[0])), dim3(kThreads),
                            combine_bytes(r, kThreads)};
  stream.launch(r.h % 4 == 0 ? combine_rows<4> : combine_rows<1>, how, r);
}

}  // namespace moepp::cuda
