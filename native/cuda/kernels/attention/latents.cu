// Launches of attention over latents: f32.cuh, latents_mma.cuh. In f32 the sums take up to 128
// registers of a thread, and some others spill.
// SASS * attend_latents_f32: FFMA LDS MUFU SHFL
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 attend_latents_mma: HMMA LDSM LDGSTS MUFU !LDL !STL no-spills
#include "cuda/kernels/attention/f32.cuh"
#include "cuda/kernels/attention/latents_mma.cuh"

namespace moepp::cuda {

namespace {

template <class C>
__global__ void __launch_bounds__(f32::kThreads) attend_latents_f32(Attention a) {
  await_inputs();
  f32::attend_rows<C>(a, SplitPlace::of_block());
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) attend_latents_mma(Attention a) {
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    await_inputs();
    latents_mma::attend_rows<C>(a, SplitPlace::of_block());
  }
}

template <class E, int kSlices>
void launch_f32(const Attention& a, bool split, int splits, CudaQueue& queue) {
  using Whole = f32::Config<E, 4, false, kSlices>;
  using Split = f32::Config<E, 4, true, kSlices>;
  const simt::Launch how = {attention_grid(a, split, splits, f32::kRows), dim3(f32::kThreads),
                            sizeof(f32::Smem<Whole>)};
  queue.launch(split ? attend_latents_f32<Split> : attend_latents_f32<Whole>, how, a);
}

template <class E>
void launch_f32(const Attention& a, bool split, int splits, CudaQueue& queue) {
  // 64 KB of shared memory, which every chip has, and 84 KB, which Turing lacks.
  constexpr int kFew = 5, kMost = static_cast<int>(kMostLatentDim) / 128;
  a.step.key_dim <= kFew * 128 ? launch_f32<E, kFew>(a, split, splits, queue)
                               : launch_f32<E, kMost>(a, split, splits, queue);
}

template <class C>
bool launch_mma(const Attention& a, int splits, CudaQueue& queue) {
  constexpr size_t kBytes = sizeof(latents_mma::Smem<C>);
  if (kBytes > queue.block_shared_bytes()) return false;
  const simt::Launch how = {attention_grid(a, C::kSplit, splits, C::kRows), dim3(C::kThreads),
                            kBytes};
  queue.launch(attend_latents_mma<C>, how, a);
  return true;
}

// By the most rows and slots that a block has shared memory for.
bool launch_mma(const Attention& a, bool split, int splits, CudaQueue& queue) {
  using latents_mma::Config;
  if (split) {
    return launch_mma<Config<true, 1, 4>>(a, splits, queue) ||
           launch_mma<Config<true, 1, 3>>(a, splits, queue) ||
           launch_mma<Config<true, 1, 2>>(a, splits, queue);
  }
  return launch_mma<Config<false, 2, 4>>(a, splits, queue) ||
         launch_mma<Config<false, 2, 3>>(a, splits, queue) ||
         launch_mma<Config<false, 1, 2>>(a, splits, queue);
}

bool has_latents_mma(const Attention& a, DType cache, const CudaQueue& queue) {
  return cache == DType::kBf16 && a.step.key_dim == latents_mma::kKeyDim &&
         a.step.value_dim == latents_mma::kValueDim && queue.compiled().capability >= 80;
}

}  // namespace

void attend_latents(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue) {
  if (has_latents_mma(a, cache, queue) && launch_mma(a, split, splits, queue)) return;
  cache == DType::kF32 ? launch_f32<float>(a, split, splits, queue)
                       : launch_f32<simt::bf16>(a, split, splits, queue);
}

}  // namespace moepp::cuda
