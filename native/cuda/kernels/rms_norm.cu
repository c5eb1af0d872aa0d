// One block per row. The row of sums stays in shared memory between the two passes. So each input
// is read once and each output written once: the op is bound by memory.
// SASS * rms_norm_rows: LDG STG LDS STS SHFL !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct Rows {
  const float *x, *delta, *weight;
  float* sum;
  Output out;
  int h;
  float eps;
  bool prefetch;
};

// N: elements of one access, 4 where rows are whole fours, else 1.
template <int N>
__global__ void __launch_bounds__(kThreads) rms_norm_rows(Rows rows) {
  if (rows.prefetch) prefetch_weight(rows.weight, static_cast<int64_t>(rows.h) * 4);
  await_inputs();
  auto* partial = simt::smem<float>();
  auto* row = partial + kWarps;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * rows.h;
  const int begin = static_cast<int>(threadIdx.x) * N;
  float squares = 0.0f;
  for (int i = begin; i < rows.h; i += kThreads * N) {
    float v[N];
    load_elements(rows.x + first + i, v);
    if (rows.delta != nullptr) {
      float delta[N];
      load_elements(rows.delta + first + i, delta);
#pragma unroll
      for (int e = 0; e < N; e++) v[e] = v[e] + delta[e];
    }
    if (rows.sum != nullptr) store_elements(rows.sum + first + i, v);
    store_elements(row + i, v);
#pragma unroll
    for (int e = 0; e < N; e++) squares = fmaf(v[e], v[e], squares);
  }
  const float mean = block_sum<kWarps>(squares, partial) / static_cast<float>(rows.h);
  const float scale = 1.0f / sqrtf(mean + rows.eps);
  // this thread wrote the elements that it reads here
  for (int i = begin; i < rows.h; i += kThreads * N) {
    float v[N], w[N];
    load_elements(row + i, v);
    load_elements(rows.weight + i, w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = v[e] * scale * w[e];
    rows.out.store(first + i, v);
  }
}

}  // namespace

void rms_norm(const RmsNormArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const auto h = static_cast<int>(args.x->shape[1]);
  Rows rows = {};
  rows.x = args.x->f32();
  rows.delta = args.delta != nullptr ? args.delta->f32() : nullptr;
  rows.weight = args.weight->f32();
  rows.sum = args.sum != nullptr ? args.sum->f32() : nullptr;
  rows.out = output_of(*args.out);
  rows.h = h;
  rows.eps = args.eps;
  rows.prefetch = stream.prefetches();
  const simt::Launch how = {dim3(static_cast<unsigned>(args.x->shape[0])), dim3(kThreads),
                            (kWarps + static_cast<size_t>(h)) * sizeof(float)};
  stream.launch(h % 4 == 0 ? rms_norm_rows<4> : rms_norm_rows<1>, how, rows);
}

}  // namespace moepp::cuda
