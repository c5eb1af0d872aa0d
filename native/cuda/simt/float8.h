// e4m3 products of a warp, and conversions to e4m3. Only sm_89 and sm_120 multiply e4m3 by mma.sync
// in hardware. For sm_90 and sm_100 ptxas would make two f16 products of it, and convert both
// operands. sm_90a has wgmma of e4m3.
//
// As mma.h has it, d += a b^T with a 16 x 32 and b 8 x 32, g = lane / 4 and c = lane % 4. A
// register holds four neighbours along k, the lowest in the lowest bits:
//                a[0], a[1]   a[2], a[3]     b[0]    b[1]
//   8-bit, k32   k 4c         k 4c + 16      k 4c    k 4c + 16
// PTX: matrix fragments for mma.m16n8k32 with 8-bit operands; mma of .e4m3 and cvt to .e4m3x2 need
// sm_89. PTX leaves the precision of the sums open.
#pragma once

#include "cuda/simt/simt.h"

#if SIMT_EMULATED
#include "test/emulator/float8.h"
#else

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define SIMT_HAS_E4M3 1
#else
#define SIMT_HAS_E4M3 0
#endif
// Products of a warp, in hardware.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200
#define SIMT_HAS_E4M3_MMA 1
#else
#define SIMT_HAS_E4M3_MMA 0
#endif

namespace simt {

SIMT_DEVICE void mma_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_E4M3_MMA
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  unsupported();
#endif
}

// Two values to nearest, ties to even, the lower byte first; those past 448 become 448, NaN 0x7f.
// PTX: cvt.rn.satfinite.e4m3x2.f32.
SIMT_DEVICE uint32_t pack_e4m3(float low, float high) {
#if SIMT_HAS_E4M3
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  unsupported();
  return 0;
#endif
}

}  // namespace simt

#endif
