// Sums and maxima of a warp and of a block, the same bits in every thread and in every run.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

template <class T>
SIMT_DEVICE T warp_sum(T value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value += __shfl_xor_sync(simt::kFullMask, value, distance);
  return value;
}

// NaN if any value is.
SIMT_DEVICE float warp_max(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(simt::kFullMask, value, distance);
    value = other > value || other != other ? other : value;
  }
  return value;
}

// `partial` is Warps floats of shared memory, free to be written until here; a second use needs a
// barrier before it.
template <int Warps>
SIMT_DEVICE float block_sum(float value, float* partial) {
  static_assert(Warps <= 32, "one warp adds them up");
  value = warp_sum(value);
  const int lane = threadIdx.x % 32;
  if (lane == 0) partial[threadIdx.x / 32] = value;
  simt::sync_threads<32 * Warps>();
  return warp_sum(lane < Warps ? partial[lane] : 0.0f);
}

}  // namespace moepp::cuda
