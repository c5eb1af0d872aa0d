// The last of some blocks to finish goes on with what all of them wrote.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

// True if all `blocks` that count in `finished` have got here, so that their writes are seen.
// `finished` is one of the queue's counters, and zero again after the last. `told` is in shared
// memory, which may be in use until here. By all threads of the block.
SIMT_DEVICE bool is_last_block(unsigned* finished, unsigned blocks, int* told) {
  __syncthreads();
  if (blocks == 1) return true;
  if (threadIdx.x == 0) {
    *told = simt::atomic_add_acq_rel(finished, 1) + 1 == blocks ? 1 : 0;
    if (*told != 0) *finished = 0;  // for the next kernel
  }
  __syncthreads();
  const bool last = *told != 0;
  __syncthreads();  // it may be overwritten
  return last;
}

}  // namespace moepp::cuda
