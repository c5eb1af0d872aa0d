// e4m3: the products in plain f32, k ascending (mma.h), and the conversion.
#pragma once

#include "test/emulator/mma.h"
#include "weights/float8.h"

#define SIMT_HAS_E4M3 (::simt::emu::code_capability() >= 89)
#define SIMT_HAS_E4M3_MMA (::simt::emu::has_e4m3_mma(::simt::emu::code_capability()))

namespace simt {

namespace emu {

inline bool has_e4m3_mma(int capability) {
  return capability == 89 || capability >= 120;
}

inline float e4m3_value(uint32_t code) {
  const auto byte = static_cast<uint8_t>(code);
  return moepp::is_e4m3_nan(byte) ? NAN : moepp::e4m3_to_f32(byte);
}

// The fragments' layouts, from PTX: lane 4g + c, register i, byte p of it.
//   a[i]  row g + 8 (i % 2), k 4c + 16 (i / 2) + p
//   b[i]  row g, k 4c + 16 i + p
SIMT_REGISTERS inline void multiply_e4m3(void** args, uint32_t) {
  constexpr int kDepth = 32;
  float a[16][kDepth], b[8][kDepth];
  for (int lane = 0; lane < 32; lane++) {
    const auto* m = static_cast<MmaArgs*>(args[lane]);
    const int g = lane / 4, c = lane % 4;
    for (int i = 0; i < 4; i++) {
      for (int p = 0; p < 4; p++) {
        const int k = 4 * c + 16 * (i / 2) + p;
        a[g + 8 * (i % 2)][k] = e4m3_value(m->a[i] >> (8 * p));
        if (i % 2 == 0) b[g][k] = e4m3_value(m->b[i / 2] >> (8 * p));
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

inline uint32_t e4m3_of(float x) {
  if (std::isnan(x)) return 0x7f;
  const uint32_t sign = std::signbit(x) ? 0x80 : 0;
  const float magnitude = std::fabs(x);
  if (magnitude >= 448.0f) return sign | 0x7e;
  // Below 2^-6 the steps are 2^-9; a carry makes the next exponent in either case.
  if (magnitude < 0x1p-6f) return sign | static_cast<uint32_t>(std::nearbyintf(magnitude * 0x1p9f));
  const uint32_t bits = __float_as_uint(magnitude);
  const uint32_t rounded = (bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20;
  const uint32_t code = rounded - (120u << 3);
  return sign | (code > 0x7e ? 0x7e : code);
}

}  // namespace emu

inline void mma_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::require(SIMT_HAS_E4M3_MMA, at);
  emu::MmaArgs args = {d, a, b};
  emu::warp_meet(~0u, {"mma_e4m3", true}, &args, emu::multiply_e4m3, at);
}

inline uint32_t pack_e4m3(float low, float high, SIMT_AT) {
  emu::require(SIMT_HAS_E4M3, at);
  return emu::e4m3_of(low) | emu::e4m3_of(high) << 8;
}

}  // namespace simt
