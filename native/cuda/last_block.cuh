// The last of some blocks to finish goes on with what all of them wrote.
#pragma once

#include "cuda/reduce.cuh"

namespace moepp::cuda {

// Counts the block in `counter`, one of the queue's or of a list of stages. True if it is the
// last of `blocks`: the writes of all of them are seen. `told` is in shared memory, which may be in
// use until here. By the first kThreads of the block.
template <int kThreads>
SIMT_DEVICE bool counts_last(unsigned* counter, unsigned blocks, int* told) {
  simt::sync_threads<kThreads>();
  if (threadIdx.x == 0) *told = simt::atomic_add_acq_rel(counter, 1) + 1 == blocks ? 1 : 0;
  simt::sync_threads<kThreads>();
  const bool last = *told != 0;
  simt::sync_threads<kThreads>();  // it may be overwritten
  return last;
}

// The same with a counter that is zero again after the last.
template <int kThreads>
SIMT_DEVICE bool is_last_block(unsigned* finished, unsigned blocks, int* told) {
  if (blocks == 1) {
    simt::sync_threads<kThreads>();
    return true;
  }
  const bool last = counts_last<kThreads>(finished, blocks, told);
  if (last && threadIdx.x == 0) *finished = 0;  // for the next kernel
  return last;
}

}  // namespace moepp::cuda
