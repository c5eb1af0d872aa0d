// Warp-wide matrix products: d += a b^T, where a is 16 x k and b is 8 x k ("row.col"), by all 32
// lanes.
//
// With g = lane / 4 and c = lane % 4, d[0], d[1] are row g, columns 2c and 2c + 1. d[2], d[3] are
// the same columns of row g + 8. The registers of a and b hold neighbours along k, the lower k in
// the lower bits. a[0] and a[2] are of row g, a[1] and a[3] of row g + 8, b[0] and b[1] of row g:
//                a[0], a[1]   a[2], a[3]     b[0]    b[1]
//   16-bit, k16  k 2c         k 2c + 8       k 2c    k 2c + 8
// PTX: matrix fragments for mma.m16n8k16.
//
// sm_75 has no bf16 products. Kernels there multiply f32 (cuda_queue.h, Compiled). f16 ones
// would do, were it not for the range. bf16 reaches 3e38 and f16 65504, and below 6e-5 f16 loses
// bits. So a model would give other results on this card alone.
#pragma once

#include "cuda/simt/base.h"

namespace simt {

SIMT_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_SM80
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  unsupported();
#endif
}

}  // namespace simt
