// Stored fp8 weights: e4m3 numbers (OCP 8-bit Floating Point Specification 1.0, "E4M3"), with a
// scale for each block of 128 x 128. They are checkpoints' `*.weight` of type F8_E4M3 and
// `*.weight_scale_inv`; a weight is number * scale, rounded to f32.
//
// e4m3: a sign, four bits of exponent with bias 7, three bits of fraction; exponent 0 is subnormal.
// There are no infinities: 0x7f and 0xff are NaN, and the largest number is 448.
#pragma once

#include <cstdint>
#include <cstring>

namespace moepp {

constexpr int64_t kScaleBlock = 128;    // rows, and k, of a scale
constexpr float kMostScale = 0x1p119f;  // 448 of it are a finite bf16

static inline bool is_e4m3_nan(uint8_t code) {
  return (code & 0x7f) == 0x7f;
}

// Its bits, placed in an f32, are the number times 2^-120. Not of a NaN.
static inline float e4m3_to_f32(uint8_t code) {
  const uint32_t bits =
      static_cast<uint32_t>(code & 0x80) << 24 | static_cast<uint32_t>(code & 0x7f) << 20;
  float value;
  std::memcpy(&value, &bits, 4);
  return value * 0x1p120f;
}

// 128 k of a row, as a GPU holds them: an int8 block with other numbers (quantise.h).
struct Float8Block {
  uint8_t code[kScaleBlock];
  float scale;
};

static inline int64_t scale_blocks(int64_t size) {
  return (size + kScaleBlock - 1) / kScaleBlock;
}

}  // namespace moepp
