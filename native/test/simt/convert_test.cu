// Conversions against their definitions, on the host and in a kernel.
#include <cmath>

#include "device_test.h"

namespace moepp::simt_test {

using simt::bf16;
using simt::f16;

// The values of bf16 and f16 next to each value of the larger type, found by search rather than by
// bits.
static float f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return static_cast<float>(bits & 0x8000 ? -magnitude : magnitude);
}

MOEPP_TEST(simt_f16_is_rounded_to_nearest_even) {
  for (unsigned bits = 0; bits < 0x7bff; bits++) {  // every finite f16 and its successor
    const float low = f16_value(static_cast<uint16_t>(bits)),
                high = f16_value(static_cast<uint16_t>(bits + 1));
    const float middle = 0.5f * (low + high);
    const unsigned even = bits % 2 == 0 ? bits : bits + 1;
    EXPECT(simt::bits_of(simt::to_f16(low)) == bits);
    EXPECT(simt::bits_of(simt::to_f16(middle)) == even);
    EXPECT(simt::bits_of(simt::to_f16(std::nextafterf(middle, 0.0f))) == bits);
    EXPECT(simt::bits_of(simt::to_f16(-std::nextafterf(middle, INFINITY))) ==
           (0x8000u | (bits + 1)));
  }
  EXPECT(simt::bits_of(simt::to_f16(65520.0f)) == 0x7c00 &&
         simt::bits_of(simt::to_f16(65519.0f)) == 0x7bff);
  EXPECT(simt::bits_of(simt::to_f16(-0.0f)) == 0x8000 &&
         std::isnan(simt::to_float(simt::to_f16(NAN))));
}

MOEPP_TEST(simt_bf16_is_rounded_to_nearest_even) {
  for (float x : {1.0f, -3.25f, 1e-40f, 3e38f, 0.1f, -65504.0f}) {
    const float low = simt::to_float(simt::to_bf16(x));
    EXPECT(std::abs(low - x) <= std::abs(x) * 0x1p-8f + 0x1p-134f);
    EXPECT(simt::bits_of(simt::to_bf16(low)) == simt::bits_of(simt::to_bf16(x)));
  }
  EXPECT(simt::to_float(simt::to_bf16(1.00390625f)) == 1.0f);       // half way: to even
  EXPECT(simt::to_float(simt::to_bf16(1.01171875f)) == 1.015625f);  // half way, up
  EXPECT(std::isinf(simt::to_float(simt::to_bf16(3.4e38f))) &&
         std::isnan(simt::to_float(simt::to_bf16(NAN))));
}

static __global__ void convert(const float* in, uint32_t* out) {
  const int i = threadIdx.x;
  out[4 * i] = simt::pack_bf16(in[i], in[i + 32]);
  out[4 * i + 1] = simt::pack_f16(in[i], in[i + 32]);
  out[4 * i + 2] = simt::to_tf32(in[i]);
  const float2 two = simt::unpack_bf16(out[4 * i]), half = simt::unpack_f16(out[4 * i + 1]);
  out[4 * i + 3] = two.x + half.x == 2.0f * two.x && two.y + half.y == 2.0f * two.y;
}

MOEPP_TEST(simt_pairs_hold_the_first_value_in_the_lower_half) {
  Shared<float> in(64);
  for (size_t i = 0; i < 64; i++) in[i] = 0.25f * static_cast<float>(small_integer(i, 1));
  in[0] = 1.0f + 0x1p-11f;  // half way between two tf32: away from zero
  in[1] = -1.0f - 0x1p-11f;
  Shared<uint32_t> out(128);
  EXPECT_RUNS(convert, {dim3(1), dim3(32)}, in.data(), out.data());
  for (size_t i = 0; i < 32; i++) {
    EXPECT((out[4 * i] & 0xffff) == simt::bits_of(simt::to_bf16(in[i])) &&
           out[4 * i] >> 16 == simt::bits_of(simt::to_bf16(in[i + 32])));
    EXPECT((out[4 * i + 1] & 0xffff) == simt::bits_of(simt::to_f16(in[i])));
    EXPECT(i < 2 || out[4 * i + 3] == 1);
    EXPECT((out[4 * i + 2] & 0x1fff) == 0);
  }
  EXPECT(out[2] == 0x3f802000u && out[6] == 0xbf802000u);
}

}  // namespace moepp::simt_test
