// A group of grouped_gemm for each head (grouped_gemm.cu chooses the kernel).
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

Gemm gemm_of(const HeadLinearArgs& args) {
  const Tensor& weight = *args.weight;
  Gemm g = {};
  g.x = args.x->data;
  g.weight = weight.data;
  g.out = output_of(*args.out);
  g.groups = g.picks_per_row = static_cast<int>(weight.shape[0]);  // a token has a row in each
  g.group_rows = static_cast<int>(args.x->shape[0]);
  g.rows = g.group_rows * g.groups;
  g.row_step = g.groups, g.group_step = 1 - g.rows;
  g.k = static_cast<int>(weight.shape[2]);
  g.x_pitch = static_cast<int>(args.x->shape[1]) / g.groups;
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[2]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[1]));
  g.columns = static_cast<int>(weight.shape[1]);
  g.scale = 1.0f;
  g.dtype = weight.dtype;
  g.x_dtype = args.x->dtype;
  return g;
}

void head_linear(const HeadLinearArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
