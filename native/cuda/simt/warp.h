// Warps, barriers, and what orders memory between threads. __shfl_*_sync, __ballot_sync,
// __any_sync, __all_sync,
// __match_*_sync, __syncwarp, __syncthreads, atomic* and __threadfence are CUDA's own, in both
// compilations.
#pragma once

#include "cuda/simt/base.h"
#include "cuda/simt/before_sm80.h"

namespace simt {

constexpr unsigned kFullMask = 0xffffffffu;

SIMT_DEVICE unsigned lane() {
  unsigned id;
  asm("mov.u32 %0, %%laneid;" : "=r"(id));
  return id;
}

// The sum and the greatest of the lanes of the mask, in all of them. PTX: redux.sync (sm_80).
SIMT_DEVICE int reduce_add(unsigned mask, int x) {
#if SIMT_HAS_SM80
  return __reduce_add_sync(mask, x);
#else
  return before_sm80::reduce_lanes(mask, x, [](int a, int b) { return a + b; });
#endif
}
SIMT_DEVICE int reduce_max(unsigned mask, int x) {
#if SIMT_HAS_SM80
  return __reduce_max_sync(mask, x);
#else
  return before_sm80::reduce_lanes(mask, x, [](int a, int b) { return a < b ? b : a; });
#endif
}

// True in one lane of a converged warp, the same each time. PTX: elect.sync (sm_90).
SIMT_DEVICE bool elect_one() {
#if SIMT_HAS_SM90
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected));
  return elected != 0;
#else
  return lane() == 0;
#endif
}

// Barrier `id` (1 to 15; 0 is __syncthreads) for `threads` of the block, a multiple of 32; whole
// warps only. An arrival counts but does not wait. Both order memory as __syncthreads does. PTX:
// bar, barrier.
SIMT_DEVICE void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
SIMT_DEVICE void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The first kThreads of a block meet, a multiple of 128. A part of a block has another barrier than
// the block.
template <int kThreads>
SIMT_DEVICE void sync_threads() {
  barrier_sync(1 + kThreads / 128, kThreads);
}

// Flags between blocks: what was written before a release is seen after the acquire that reads it.
// PTX: ld, st, atom (.gpu).
SIMT_DEVICE unsigned load_acquire(const unsigned* p) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
SIMT_DEVICE void store_release(unsigned* p, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}
SIMT_DEVICE unsigned atomic_add_acq_rel(unsigned* p, unsigned value) {
  unsigned old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(p), "r"(value)
               : "memory");
  return old;
}

// Programmatic dependent launch (Launch::programmatic). The first waits until the kernels before
// this one have finished and their writes are seen. The second allows the next kernel to start
// early. Without sm_90 a launch is never early. PTX: griddepcontrol.
SIMT_DEVICE void wait_for_dependencies() {
#if SIMT_HAS_SM90
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
SIMT_DEVICE void launch_dependents() {
#if SIMT_HAS_SM90
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace simt
