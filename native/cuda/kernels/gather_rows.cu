// One block per row. Bound by memory.
// SASS * copy_rows: LDG STG !LDL !STL registers<=40 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 128;

template <int N>
__global__ void __launch_bounds__(kThreads)
    copy_rows(const float* x, const int32_t* rows, float* out, int h) {
  await_inputs();
  const float* from = x + static_cast<int64_t>(rows[blockIdx.x]) * h;
  float* to = out + static_cast<int64_t>(blockIdx.x) * h;
  for (int i = static_cast<int>(threadIdx.x) * N; i < h; i += kThreads * N) {
    float v[N];
    load_elements(from + i, v);
    store_elements(to + i, v);
  }
}

}  // namespace

void gather_rows(const GatherRowsArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const auto h = static_cast<int>(args.x->shape[1]);
  const simt::Launch how = {dim3(static_cast<unsigned>(args.rows->shape[0])), dim3(kThreads)};
  stream.launch(h % 4 == 0 ? copy_rows<4> : copy_rows<1>, how, args.x->f32(), args.rows->i32(),
                args.out->f32(), h);
}

}  // namespace moepp::cuda
