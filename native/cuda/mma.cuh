// Fragments of mma.m16n8k16 from tiles in shared memory (copy.cuh), and their products.
#pragma once

#include "cuda/copy.cuh"

namespace moepp::cuda {

// a: rows row .. row + 15 and k .. k + 15 of a tile of f32 with 32 per row, rounded to bf16.
SIMT_DEVICE void load_a(uint32_t (&a)[4], const float* tile, int row, int k) {
  const int g = static_cast<int>(threadIdx.x) % 32 / 4, c = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int at = k + 2 * c + i / 2 * 8;
    const float2 pair = *reinterpret_cast<const float2*>(
        tile + swizzled_128(row + g + i % 2 * 8, at / 4) * 4 + at % 4);
    a[i] = simt::pack_bf16(pair.x, pair.y);
  }
}

// The same of a tile of bf16.
SIMT_DEVICE void load_a(uint32_t (&a)[4], const simt::bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int at = swizzled_64(row + lane % 16, k / 8 + lane / 16);
  simt::ldmatrix_x4(a[0], a[1], a[2], a[3], tile + at * 8);
}

// b: rows row .. row + 15 (two fragments of 8) and k .. k + 15 of a tile of bf16, 32 per row.
SIMT_DEVICE void load_b_pair(uint32_t (&low)[2], uint32_t (&high)[2], const simt::bf16* tile,
                             int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int at = swizzled_64(row + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2);
  simt::ldmatrix_x4(low[0], low[1], high[0], high[1], tile + at * 8);
}

// Keeps the compiler from moving what reads wgmma's accumulators to before the wait for them.
template <int N>
SIMT_DEVICE void after_wgmma(float (&d)[N]) {
#if !SIMT_EMULATED
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

}  // namespace moepp::cuda
