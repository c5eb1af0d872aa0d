// Global memory with hints for the caches. None of them changes a result.
#pragma once

#include "cuda/simt/base.h"

namespace simt {

// L2's hint for how long to keep an accessed line. PTX: createpolicy (sm_80).
SIMT_DEVICE uint64_t l2_evict_first() {
  uint64_t policy = 0;
#if SIMT_HAS_SM80
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}
SIMT_DEVICE uint64_t l2_evict_last() {
  uint64_t policy = 0;
#if SIMT_HAS_SM80
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}

// 16 bytes that no kernel in flight writes and that this block reads once: weights. They take no
// room in L1. PTX: ld.global.nc.
SIMT_DEVICE uint4 load_stream(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
SIMT_DEVICE uint4 load_stream(const uint4* p, uint64_t l2_policy) {
#if SIMT_HAS_SM80
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p), "l"(l2_policy));
  return v;
#else
  return load_stream(p);
#endif
}

// Brings the line that holds p into L2. PTX: prefetch.
SIMT_DEVICE void prefetch_l2(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
// The same for a range; address and size are multiples of 16. PTX: cp.async.bulk.prefetch.L2
// (sm_90); nothing before.
SIMT_DEVICE void prefetch_l2_bulk(const void* p, uint32_t bytes) {
#if SIMT_HAS_SM90
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

}  // namespace simt
