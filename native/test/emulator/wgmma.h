#pragma once

#include "test/emulator/tma.h"

namespace simt {

namespace emu {

// The place in shared memory of element k of a row of an operand, the swizzle undone. PTX: matrix
// descriptor, K-major layouts, 128B swizzle. The sanitizers see an access there.
__attribute__((noinline)) inline uint32_t operand(uint64_t descriptor, int row, int k) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  const uint32_t offset = start + static_cast<uint32_t>(row / 8) * stride +
                          static_cast<uint32_t>(row % 8) * 128 + static_cast<uint32_t>(k) * 2;
  const uint32_t at = swizzled(offset, 7);
  (void)*reinterpret_cast<const volatile uint16_t*>(smem_base() + at);
  return at;
}

SIMT_REGISTERS inline void run_wgmma(const Product& p) {
  float a[64][16], b[256][16];
  const unsigned char* seen = async_smem();
  const auto value = [seen](uint64_t descriptor, int row, int k) {
    uint16_t bits;
    __builtin_memcpy(&bits, seen + operand(descriptor, row, k), 2);
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
  };
  for (int k = 0; k < 16; k++) {
    for (int row = 0; row < 64; row++) a[row][k] = value(p.a, row, k);
    for (int row = 0; row < p.n; row++) b[row][k] = value(p.b, row, k);
  }
  for (int t = 0; t < 128; t++) {
    for (int i = 0; i < p.n / 2; i++) {
      const int row = 16 * (t / 32) + t % 32 / 4 + 8 * (i / 2 % 2),
                column = 8 * (i / 4) + 2 * (t % 4) + i % 2;
      float sum = 0.0f;
      for (int k = 0; k < 16; k++) sum += a[row][k] * b[column][k];
      p.d[t][i] = p.accumulate ? p.d[t][i] + sum : sum;
    }
  }
}

struct WgmmaArgs {
  float* d;
  uint64_t a, b;
  int n;
  bool accumulate;
  Site at;
};
SIMT_REGISTERS inline void start_wgmma(void** args, uint32_t) {
  const auto* first = static_cast<const WgmmaArgs*>(args[0]);
  Product product = {run_wgmma, {}, first->a, first->b, first->n, first->accumulate};
  for (int t = 0; t < 128; t++) {
    const auto* own = static_cast<const WgmmaArgs*>(args[t]);
    if (own->a != first->a || own->b != first->b || own->accumulate != first->accumulate) {
      fail(first->at, "wgmma: the threads of the warpgroup give different operands");
    }
    product.d[t] = own->d;
  }
  product_start(product);
}

inline void check_descriptor(uint64_t descriptor, int rows, const char* name, Site at) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
  if (descriptor >> 62 != 1)
    fail(at, "wgmma: %s is not in the 128-byte swizzle, the only one that is emulated", name);
  if ((start >> 7 & 7) != (descriptor >> 49 & 7))
    fail(at, "wgmma: %s does not begin in the first row of a swizzle", name);
  if (start % 128 + 32 > 128) fail(at, "wgmma: 16 elements of %s cross the end of their row", name);
  if (start / 1024 * 1024 + static_cast<uint32_t>(rows / 8 - 1) * stride + 1024 > smem_bytes()) {
    fail(at, "wgmma: %s reaches beyond shared memory", name);
  }
}

}  // namespace emu

inline uint64_t wgmma_descriptor(const void* p, SIMT_AT) {
  return static_cast<uint64_t>((smem_address(p, at) & 0x3ffff) >> 4) | (uint64_t{1} << 16) |
         (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 62);
}
inline void wgmma_fence(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_fence", nullptr, [](void**, uint32_t) { emu::product_fence(); }, at);
}
inline void wgmma_commit(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_commit", nullptr, [](void**, uint32_t) { emu::product_commit(); }, at);
}
template <int Newest>
inline void wgmma_wait(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_wait", nullptr, [](void**, uint32_t) { emu::product_wait(Newest); }, at);
  emu::product_waited();
}
template <int N>
inline void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, SIMT_AT) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256, "widths in use");
  emu::require(SIMT_HAS_SM90A, at);
  emu::check_descriptor(a, 64, "a", at);
  emu::check_descriptor(b, N, "b", at);
  emu::WgmmaArgs args = {d, a, b, N, accumulate, at};
  emu::product_issue(at);
  emu::group_meet("wgmma_bf16", &args, emu::start_wgmma, at);
}

}  // namespace simt
