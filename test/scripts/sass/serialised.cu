// ptxas lets the products of `serialised` wait for each other, because their sums are read before
// they are waited for. It ignores the setmaxnreg of `deals_unknown`, whose threads have no known
// number of registers. It says so in lines of information alone.
// SASS sm_90a serialised: HGMMA
// SASS sm_90a overlapping: HGMMA
// SASS sm_90a deals_unknown: STG
#include "cuda/simt/simt.h"

namespace fixture {

struct Smem {
  alignas(1024) simt::bf16 a[64 * 64], b[64 * 64];
};

template <bool kReadsEarly>
SIMT_DEVICE void multiply(float* out) {
  auto& s = *simt::smem<Smem>();
  float sum[32] = {};
  float early = 0.0f;
  simt::wgmma_fence();
  for (int i = 0; i < 64; i += 16) {
    simt::wgmma_bf16<64>(sum, simt::wgmma_descriptor(s.a + i), simt::wgmma_descriptor(s.b + i),
                         true);
    if (kReadsEarly) early += sum[0];
  }
  simt::wgmma_commit();
  simt::wgmma_wait<0>();
  for (int i = 0; i < 32; i++) out[threadIdx.x * 32 + i] = sum[i] + early;
}

__global__ void __launch_bounds__(128) serialised(float* out) {
  multiply<true>(out);
}

__global__ void __launch_bounds__(128) overlapping(float* out) {
  multiply<false>(out);
}

__global__ void deals_unknown(float* out) {
  simt::setmaxnreg_dec<40>();
  out[threadIdx.x] = 1.0f;
}

}  // namespace fixture
