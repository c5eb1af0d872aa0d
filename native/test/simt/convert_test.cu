// Conversions against their definitions, on the host and in a kernel.
#include <cmath>

#include "device_test.h"

namespace moepp::simt_test {

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
  out[2 * i] = simt::pack_bf16(in[i], in[i + 32]);
  const float2 two = simt::unpack_bf16(out[2 * i]);
  out[2 * i + 1] = two.x == in[i] && two.y == in[i + 32];
}

MOEPP_TEST(simt_pairs_hold_the_first_value_in_the_lower_half) {
  Shared<float> in(64);
  for (size_t i = 0; i < 64; i++) in[i] = 0.25f * static_cast<float>(small_integer(i, 1));
  Shared<uint32_t> out(64);
  EXPECT_RUNS(convert, {dim3(1), dim3(32)}, in.data(), out.data());
  for (size_t i = 0; i < 32; i++) {
    EXPECT((out[2 * i] & 0xffff) == simt::bits_of(simt::to_bf16(in[i])) &&
           out[2 * i] >> 16 == simt::bits_of(simt::to_bf16(in[i + 32])));
    EXPECT(out[2 * i + 1] == 1);
  }
}

}  // namespace moepp::simt_test
