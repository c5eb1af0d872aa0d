// The products in plain f32, k ascending. The hardware's order and rounding are its own; PTX leaves
// them open.
#pragma once

#include "test/emulator/warp.h"

namespace simt {

namespace emu {

// The fragments' layouts, from PTX: lane 4g + c, register i, half p of it.
//   a[i]  row g + 8 (i % 2), k 2c + 8 (i / 2) + p
//   b[i]  row g, k 2c + 8 i + p
struct MmaArgs {
  float* d;
  const uint32_t *a, *b;
};
SIMT_REGISTERS inline void multiply_bf16(void** args, uint32_t) {
  constexpr int kDepth = 16;
  float a[16][kDepth], b[8][kDepth];
  const auto part = [](uint32_t pair, int p) {
    return __uint_as_float(p == 0 ? pair << 16 : pair & 0xffff0000u);
  };
  for (int lane = 0; lane < 32; lane++) {
    const auto* m = static_cast<MmaArgs*>(args[lane]);
    const int g = lane / 4, c = lane % 4;
    for (int i = 0; i < 4; i++) {
      for (int p = 0; p < 2; p++) {
        const int k = 2 * c + 8 * (i / 2) + p;
        a[g + 8 * (i % 2)][k] = part(m->a[i], p);
        if (i % 2 == 0) b[g][k] = part(m->b[i / 2], p);
      }
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    auto* m = static_cast<MmaArgs*>(args[lane]);
    for (int i = 0; i < 4; i++) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      float sum = 0;
      for (int k = 0; k < kDepth; k++) sum += a[row][k] * b[column][k];
      m->d[i] += sum;
    }
  }
}

}  // namespace emu

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::require(SIMT_HAS_SM80, at);
  emu::MmaArgs args = {d, a, b};
  emu::warp_meet(~0u, {"mma_bf16", true}, &args, emu::multiply_bf16, at);
}

// Rounded to f32 on the way: where that is inexact, a tie may go the other way than on a GPU.
inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c, SIMT_AT) {
  emu::require(SIMT_HAS_SM80, at);
  const float2 x = unpack_bf16(a), y = unpack_bf16(b), z = unpack_bf16(c);
  return pack_bf16(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y));
}

}  // namespace simt
