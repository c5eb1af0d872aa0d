// One group of grouped_gemm (grouped_gemm.cu chooses the kernel).
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

Gemm gemm_of(const LinearArgs& args) {
  const Tensor& weight = *args.weight;
  Gemm g = {};
  g.x = args.x->data;
  g.weight = weight.data;
  g.out = output_of(*args.out);
  g.picks_per_row = 1;
  g.groups = 1;
  g.rows = g.group_rows = static_cast<int>(args.x->shape[0]);
  g.row_step = 1;
  g.k = g.x_pitch = static_cast<int>(weight.shape[1]);
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[1]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[0]));
  g.columns = static_cast<int>(args.out->shape[1]);
  g.scale = 1.0f;
  g.bias = args.bias != nullptr ? args.bias->f32() : nullptr;
  g.activation = args.activation;
  g.dtype = weight.dtype;
  g.x_dtype = args.x->dtype;
  return g;
}

void linear(const LinearArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
