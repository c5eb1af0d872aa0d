// Barriers in shared memory that count arrivals and bytes (sm_90). PTX: mbarrier.
//
// A phase is complete when the arrivals given to mbar_init have come and the bytes expected have
// landed; then the next begins. Phases are told apart by parity: the first is 0. mbar_wait(b, 1) on
// a fresh barrier returns at once.
#pragma once

#include "cuda/simt/base.h"

namespace simt {

using Mbarrier = uint64_t;  // in shared memory, aligned to 8

// By one thread; then fence_mbarrier_init by it and a barrier of the block, before anybody uses it.
SIMT_DEVICE void mbar_init(Mbarrier* b, int arrivals) {
#if SIMT_HAS_SM90
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem_address(b)), "r"(arrivals)
               : "memory");
#else
  unsupported();
#endif
}
// Makes initialised barriers visible to the asynchronous units.
SIMT_DEVICE void fence_mbarrier_init() {
#if SIMT_HAS_SM90
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  unsupported();
#endif
}

// One arrival; a release.
SIMT_DEVICE void mbar_arrive(Mbarrier* b) {
#if SIMT_HAS_SM90
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem_address(b)) : "memory");
#else
  unsupported();
#endif
}
// Announces bytes that copies will bring in this phase, then arrives.
SIMT_DEVICE void mbar_arrive_expect_tx(Mbarrier* b, uint32_t bytes) {
#if SIMT_HAS_SM90
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem_address(b)),
               "r"(bytes)
               : "memory");
#else
  unsupported();
#endif
}
// Arrives once all earlier cp.async of the calling thread have landed. The arrival is one of those
// given to mbar_init. A consumer that reads the data with wgmma needs fence_proxy_async after its
// wait. PTX: cp.async.mbarrier.arrive.noinc.
SIMT_DEVICE void cp_async_mbar_arrive(Mbarrier* b) {
#if SIMT_HAS_SM90
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(smem_address(b))
               : "memory");
#else
  unsupported();
#endif
}

// True if the phase of this parity is complete; may take its time to say no. An acquire when true.
SIMT_DEVICE bool mbar_try_wait(Mbarrier* b, int parity) {
#if SIMT_HAS_SM90
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(smem_address(b)), "r"(parity)
      : "memory");
  return done != 0;
#else
  unsupported();
  return true;
#endif
}
SIMT_DEVICE void mbar_wait(Mbarrier* b, int parity) {
  while (!mbar_try_wait(b, parity)) {
  }
}

// Orders the calling thread's ordinary accesses of shared memory before what wgmma and TMA do
// later, and the other way round. PTX: membar, fence (fence.proxy.async).
SIMT_DEVICE void fence_proxy_async() {
#if SIMT_HAS_SM90
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  unsupported();
#endif
}

// Moves registers between the warpgroups of a block: Count per thread, a multiple of 8 from 24 to
// 256. By whole warpgroups. setmaxnreg_inc waits until the block's pool has as many, for ever if it
// never will. The pool holds the registers that the block was launched with: registers per thread
// (known from __launch_bounds__) times threads. setmaxnreg_dec gives registers back to it. PTX:
// setmaxnreg (sm_90a).
template <int Count>
SIMT_DEVICE void setmaxnreg_inc() {
  static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256, "register count");
#if SIMT_HAS_SM90A
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
#else
  unsupported();
#endif
}
template <int Count>
SIMT_DEVICE void setmaxnreg_dec() {
  static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256, "register count");
#if SIMT_HAS_SM90A
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
#else
  unsupported();
#endif
}

}  // namespace simt
