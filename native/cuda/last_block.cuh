// The block of a kernel that ends last does what needs the results of all.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

// By all threads of every block, once: true in the block that comes last, which then sees what the
// others wrote before they came. `arrived` is a zero in memory, and zero again for the next kernel.
// `told` is a word of shared memory; it and what the block has there may be overwritten after.
SIMT_DEVICE bool is_last_block(unsigned* arrived, int* told) {
  __syncthreads();
  const unsigned blocks = gridDim.x * gridDim.y;
  if (blocks == 1) return true;
  if (threadIdx.x == 0) {
    *told = simt::atomic_add_acq_rel(arrived, 1) + 1 == blocks ? 1 : 0;
    if (*told != 0) *arrived = 0;
  }
  __syncthreads();
  const bool last = *told != 0;
  __syncthreads();
  return last;
}

}  // namespace moepp::cuda
