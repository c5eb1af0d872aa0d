// Launches of attention in f32: f32.cuh.
// SASS * attend: FFMA LDS MUFU SHFL !LDL !STL registers<=168 no-spills
#include "cuda/kernels/attention/f32.cuh"

namespace moepp::cuda {

namespace f32 {

template <class C>
__global__ void __launch_bounds__(kThreads, 3) attend(Attention a) {
  await_inputs();
  attend_rows<C>(a, SplitPlace::of_block());
}

template <class E, int kDims>
void launch(const Attention& a, bool split, int splits, CudaQueue& queue) {
  using Whole = Config<E, kDims, false>;
  using Split = Config<E, kDims, true>;
  const simt::Launch how = {attention_grid(a, split, splits, kRows), dim3(kThreads),
                            sizeof(Smem<Whole>)};
  queue.launch(split ? attend<Split> : attend<Whole>, how, a);
}

}  // namespace f32

void attend_f32(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue) {
  const bool wide = f32::is_wide(a);
  if (cache == DType::kF32)
    return wide ? f32::launch<float, 8>(a, split, splits, queue)
                : f32::launch<float, 4>(a, split, splits, queue);
  return wide ? f32::launch<simt::bf16, 8>(a, split, splits, queue)
              : f32::launch<simt::bf16, 4>(a, split, splits, queue);
}

}  // namespace moepp::cuda
