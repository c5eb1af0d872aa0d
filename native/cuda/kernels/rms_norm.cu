// One block per row. The row of sums stays in shared memory between the two passes. So each input
// is read once and each output written once: the op is bound by memory.
// SASS * rms_norm_rows: LDG STG LDS STS SHFL !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct Rows {
  const float *x, *delta, *weight;
  float *sum, *out;
  int h;
  float eps;
  bool prefetch;
};

SIMT_DEVICE float add(float a, float b) {
  return a + b;
}
SIMT_DEVICE float4 add(float4 a, float4 b) {
  return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}
SIMT_DEVICE float add_squares(float v, float sum) {
  return fmaf(v, v, sum);
}
SIMT_DEVICE float add_squares(float4 v, float sum) {
  return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
}
SIMT_DEVICE float scaled(float v, float scale, float w) {
  return v * scale * w;
}
SIMT_DEVICE float4 scaled(float4 v, float scale, float4 w) {
  return make_float4(v.x * scale * w.x, v.y * scale * w.y, v.z * scale * w.z, v.w * scale * w.w);
}

// Vector is float4 where rows are whole float4s, else float.
template <class Vector>
__global__ void __launch_bounds__(kThreads) rms_norm_rows(Rows rows) {
  if (rows.prefetch) prefetch_weight(rows.weight, static_cast<int64_t>(rows.h) * 4);
  await_inputs();
  auto* partial = simt::smem<float>();
  auto* row = reinterpret_cast<Vector*>(partial + kWarps);
  const int n = rows.h / static_cast<int>(sizeof(Vector) / sizeof(float));
  const int64_t first = static_cast<int64_t>(blockIdx.x) * rows.h;
  const auto* x = reinterpret_cast<const Vector*>(rows.x + first);
  const auto* delta =
      rows.delta != nullptr ? reinterpret_cast<const Vector*>(rows.delta + first) : nullptr;
  const auto* weight = reinterpret_cast<const Vector*>(rows.weight);
  auto* sum = rows.sum != nullptr ? reinterpret_cast<Vector*>(rows.sum + first) : nullptr;
  auto* out = reinterpret_cast<Vector*>(rows.out + first);

  float squares = 0.0f;
  for (int i = threadIdx.x; i < n; i += kThreads) {
    Vector v = x[i];
    if (delta != nullptr) v = add(v, delta[i]);
    if (sum != nullptr) sum[i] = v;
    row[i] = v;
    squares = add_squares(v, squares);
  }
  const float mean = block_sum<kWarps>(squares, partial) / static_cast<float>(rows.h);
  const float scale = 1.0f / sqrtf(mean + rows.eps);
  // this thread wrote the elements that it reads here
  for (int i = threadIdx.x; i < n; i += kThreads) out[i] = scaled(row[i], scale, weight[i]);
}

}  // namespace

void rms_norm(const RmsNormArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const auto h = static_cast<int>(args.x->shape[1]);
  const Rows rows = {args.x->f32(),      args.delta != nullptr ? args.delta->f32() : nullptr,
                     args.weight->f32(), args.sum != nullptr ? args.sum->f32() : nullptr,
                     args.out->f32(),    h,
                     args.eps,           stream.prefetches()};
  const simt::Launch how = {dim3(static_cast<unsigned>(args.x->shape[0])), dim3(kThreads),
                            (kWarps + static_cast<size_t>(h)) * sizeof(float)};
  stream.launch(h % 4 == 0 ? rms_norm_rows<float4> : rms_norm_rows<float>, how, rows);
}

}  // namespace moepp::cuda
