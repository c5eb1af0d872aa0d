// Asynchronous copies of a thread (cp.async) and loads of fragments (ldmatrix).
#pragma once

#include "cuda/simt/base.h"
#include "cuda/simt/before_sm80.h"

namespace simt {

// Copies Bytes (4, 8 or 16; both addresses aligned to it) from global to shared memory, later: see
// cp_async_wait. Only source_bytes of them are read, the rest is zeroed; with 0 the source may be
// any address. PTX: cp.async (sm_80); before, the copy is done at once.
template <int Bytes>
SIMT_DEVICE void cp_async_zfill(void* dst, const void* src, int source_bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if SIMT_HAS_SM80
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address(dst)), "l"(src),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(smem_address(dst)), "l"(src),
                 "n"(Bytes), "r"(source_bytes)
                 : "memory");
  }
#else
  before_sm80::copy_zfill<Bytes>(dst, src, source_bytes);
#endif
}
template <int Bytes>
SIMT_DEVICE void cp_async(void* dst, const void* src) {
  cp_async_zfill<Bytes>(dst, src, Bytes);
}

// Closes the calling thread's group of copies.
SIMT_DEVICE void cp_async_commit() {
#if SIMT_HAS_SM80
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until all but the Newest last committed groups of the calling thread have landed: in its
// own eyes. Others see the data after a barrier.
template <int Newest>
SIMT_DEVICE void cp_async_wait() {
#if SIMT_HAS_SM80
  asm volatile("cp.async.wait_group %0;" ::"n"(Newest) : "memory");
#endif
}

// Matrices of 8 rows x 8 b16: lane 8m + r gives the address of row r of matrix m (16 bytes, aligned
// to 16). Lane l then holds elements 2 (l % 4) and + 1 of row l / 4 of each matrix. With _trans it
// holds those of column l / 4. With x1 and x2, the addresses of the other lanes are not used. All
// 32 lanes. PTX: ldmatrix.
SIMT_DEVICE void ldmatrix_x1(uint32_t& r0, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
               : "=r"(r0)
               : "r"(smem_address(row))
               : "memory");
}
SIMT_DEVICE void ldmatrix_x1_trans(uint32_t& r0, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
               : "=r"(r0)
               : "r"(smem_address(row))
               : "memory");
}
SIMT_DEVICE void ldmatrix_x2(uint32_t& r0, uint32_t& r1, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1)
               : "r"(smem_address(row))
               : "memory");
}
SIMT_DEVICE void ldmatrix_x2_trans(uint32_t& r0, uint32_t& r1, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r0), "=r"(r1)
               : "r"(smem_address(row))
               : "memory");
}
SIMT_DEVICE void ldmatrix_x4(uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3,
                             const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(smem_address(row))
               : "memory");
}
SIMT_DEVICE void ldmatrix_x4_trans(uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3,
                                   const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
               : "r"(smem_address(row))
               : "memory");
}

}  // namespace simt
