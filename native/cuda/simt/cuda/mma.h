// Warp-wide matrix products: d += a b^T, where a is 16 x k and b is 8 x k ("row.col"), by all 32
// lanes.
//
// With g = lane / 4 and c = lane % 4, d[0], d[1] are row g, columns 2c and 2c + 1. d[2], d[3] are
// the same columns of row g + 8. The registers of a and b hold neighbours along k, the lower k in
// the lower bits. a[0] and a[2] are of row g, a[1] and a[3] of row g + 8, b[0] and b[1] of row g:
//                a[0], a[1]   a[2], a[3]     b[0]    b[1]
//   16-bit, k16  k 2c         k 2c + 8       k 2c    k 2c + 8
//   tf32, k8     k c          k c + 4        k c     k c + 4
//   s8, k32      k 4c         k 4c + 16      k 4c    k 4c + 16
// PTX: matrix fragments for mma.m16n8k16, m16n8k8, m16n8k32.
//
// sm_75 has neither bf16 nor tf32 products. f16 ones would do, were it not for the range. bf16
// reaches 3e38 and f16 65504, and below 6e-5 f16 loses bits. So a model would give other results on
// this card alone. There the products are f32, exchanged by shuffles: slower than a kernel made for
// f32, but right, from the same source. f16 and s8 are put together from the smaller shapes that
// sm_75 has.
#pragma once

#include "cuda/simt/cuda/base.h"

namespace simt {

#if !SIMT_HAS_SM80
// One product of `Steps` registers along k: lane 4r + s holds register s of row r.
// Element(register, i) gives its i-th value.
template <int Elements, class Element>
SIMT_DEVICE void mma_by_shuffles(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                 Element element) {
  const int lane_id = threadIdx.x % 32, g = lane_id / 4, c = lane_id % 4;
  for (int half = 0; half < 2; half++) {
    for (int s = 0; s < 4; s++) {
      const uint32_t low = __shfl_sync(0xffffffffu, a[2 * half], 4 * g + s);
      const uint32_t high = __shfl_sync(0xffffffffu, a[2 * half + 1], 4 * g + s);
      const uint32_t left = __shfl_sync(0xffffffffu, b[half], 4 * (2 * c) + s);
      const uint32_t right = __shfl_sync(0xffffffffu, b[half], 4 * (2 * c + 1) + s);
      for (int i = 0; i < Elements; i++) {
        d[0] = fmaf(element(low, i), element(left, i), d[0]);
        d[1] = fmaf(element(low, i), element(right, i), d[1]);
        d[2] = fmaf(element(high, i), element(left, i), d[2]);
        d[3] = fmaf(element(high, i), element(right, i), d[3]);
      }
    }
  }
}
#endif

SIMT_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_SM80
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_by_shuffles<2>(d, a, b, [](uint32_t pair, int i) {
    return __uint_as_float(i == 0 ? pair << 16 : pair & 0xffff0000u);
  });
#endif
}

SIMT_DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_SM80
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int half = 0; half < 2; half++) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, "
        "%1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

// Operands from to_tf32: the instruction ignores the 13 lowest bits.
SIMT_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_SM80
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_by_shuffles<1>(d, a, b, [](uint32_t value, int) { return __uint_as_float(value); });
#endif
}

SIMT_DEVICE void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if SIMT_HAS_SM80
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  for (int i = 0; i < 4; i++) {  // a[i] has rows g (+ 8 when i is odd) and k from 16 (i / 2)
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(d[2 * (i % 2)]), "+r"(d[2 * (i % 2) + 1])
                 : "r"(a[i]), "r"(b[i / 2]));
  }
#endif
}

}  // namespace simt
