// Sums and maxima of a warp and of a block, the same bits in every thread and in every run.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

// The first kThreads of a block meet: all of it, or all but those that copy weights
// (kernels/persistent/). Half of a block has another barrier than the block.
template <int kThreads>
SIMT_DEVICE void sync_threads() {
  simt::barrier_sync(1 + kThreads / 128, kThreads);
}

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
  sync_threads<32 * Warps>();
  return warp_sum(lane < Warps ? partial[lane] : 0.0f);
}

}  // namespace moepp::cuda
