// Launches of attention on tensor cores: mma.cuh.
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 attend: HMMA LDSM LDGSTS MUFU !LDL !STL no-spills
#include "cuda/kernels/attention/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace mma {

template <class C>
__global__ void __launch_bounds__(kThreads, C::kSplit&& C::kD <= 96 ? 3 : 2) attend(Attention a) {
  static_assert(C::kD % 16 == 0, "whole steps");
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    await_inputs();
    attend_rows<C>(a, SplitPlace::of_block());
  }
}

template <int kD>
void launch(const Attention& a, bool split, int splits, CudaQueue& queue) {
  using Whole = Config<kD, false>;
  using Split = Config<kD, true>;
  const simt::Launch how = {attention_grid(a, split, splits, Whole::kRows), dim3(kThreads),
                            sizeof(Smem<Whole>)};
  queue.launch(split ? attend<Split> : attend<Whole>, how, a);
}

}  // namespace mma

bool has_mma(const Attention& a, DType cache, int compute_capability) {
  const int d = a.step.key_dim;
  return cache == DType::kBf16 && a.step.value_dim == d && d >= 64 && d <= 128 && d % 16 == 0 &&
         compute_capability >= 80;
}

void attend_mma(const Attention& a, bool split, int splits, CudaQueue& queue) {
  switch (a.step.key_dim) {
    case 64:
      return mma::launch<64>(a, split, splits, queue);
    case 80:
      return mma::launch<80>(a, split, splits, queue);
    case 96:
      return mma::launch<96>(a, split, splits, queue);
    case 112:
      return mma::launch<112>(a, split, splits, queue);
    default:
      return mma::launch<128>(a, split, splits, queue);
  }
}

}  // namespace moepp::cuda
