// Chooses the kernel of a matrix product (grouped_gemm/gemm.h).
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

Gemm gemm_of(const GroupedGemmArgs& args) {
  const Tensor& weight = *args.weight;
  const bool swiglu = args.activation == Activation::kSwiglu;
  Gemm g = {};
  g.x = args.x->f32();
  g.token_order = args.token_order != nullptr ? args.token_order->i32() : nullptr;
  g.offsets = args.expert_offsets->i32();
  g.weight = weight.data;
  g.out = args.out->f32();
  g.top_k = static_cast<int>(args.out->shape[1]);
  g.groups = static_cast<int>(weight.shape[0]);
  g.rows = static_cast<int>(args.out->shape[0] * args.out->shape[1]);
  g.k = static_cast<int>(weight.shape[2]);
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[2]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[1]));
  g.columns = static_cast<int>(swiglu ? weight.shape[1] / 2 : weight.shape[1]);
  g.scale = args.input_scale;
  g.activation = args.activation;
  g.dtype = weight.dtype;
  return g;
}

GemmKernel choose_gemm(const Gemm& g, const CudaQueue& queue) {
  // A token's picks are of different experts, so that no group has more rows than there are tokens.
  constexpr int kDecodeRows = 8, kNarrowRows = 32;
  if (g.rows / g.top_k <= kDecodeRows) return GemmKernel::kDecode;
  if (g.dtype != DType::kBf16 || queue.compute_capability() < 80) return GemmKernel::kF32;
  // On average; and wide tiles must give every multiprocessor one.
  const int64_t wide_tiles = static_cast<int64_t>(g.rows / 128) * (g.weight_rows / 128);
  const bool wide = g.rows / g.groups > kNarrowRows && wide_tiles >= queue.multiprocessors();
  if (!wide || g.activation == Activation::kTanh) return GemmKernel::kSm80Narrow;
  return queue.compute_capability() == 90 ? GemmKernel::kSm90 : GemmKernel::kSm80;
}

void run_gemm(const Gemm& gemm, GemmKernel kernel, CudaQueue& queue) {
  if (gemm.rows == 0 || gemm.columns == 0) return;
  switch (kernel) {
    case GemmKernel::kF32:
      return gemm_f32(gemm, queue);
    case GemmKernel::kDecode:
      return gemm_decode(gemm, queue);
    case GemmKernel::kSm80Narrow:
      return gemm_sm80(gemm, true, queue);
    case GemmKernel::kSm80:
      return gemm_sm80(gemm, false, queue);
    case GemmKernel::kSm90:
      return gemm.k % 4 == 0 ? gemm_sm90(gemm, queue) : gemm_sm80(gemm, false, queue);
  }
}

void grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
