// e4m3 products, with fragments put together element by element as PTX describes them; conversions.
#include <cmath>

#include "cuda/simt/float8.h"
#include "device_test.h"
#include "float8_file.h"

namespace moepp::simt_test {

// a [16, 32] and b [8, 32], d [16, 8], to which the product is added.
static __global__ void multiply_e4m3(const unsigned char* a, const unsigned char* b, float* d) {
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const auto four = [](const unsigned char* at) {
    return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 |
           static_cast<uint32_t>(at[2]) << 16 | static_cast<uint32_t>(at[3]) << 24;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++) fa[i] = four(a + (g + i % 2 * 8) * 32 + 4 * c + i / 2 * 16);
  for (int i = 0; i < 2; i++) fb[i] = four(b + g * 32 + 4 * c + i * 16);
  float fd[4];
  for (int i = 0; i < 4; i++) fd[i] = static_cast<float>(lane + i);
  simt::mma_e4m3(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + c * 2 + i % 2] = fd[i];
}

// Sums of 32 products of such numbers are exact.
MOEPP_TEST(simt_float8_mma_multiplies) {
  for_each_schedule([] {
    Shared<unsigned char> a(16 * 32), b(8 * 32);
    Shared<float> d(16 * 8);
    const auto code = [](size_t i, size_t seed) {  // 0.25 to 3.75, of either sign
      return static_cast<unsigned char>(0x28 + (i * 7 + seed) % 32 + (i * 5 + seed) % 2 * 0x80);
    };
    for (size_t i = 0; i < a.size(); i++) a[i] = code(i, 1);
    for (size_t i = 0; i < b.size(); i++) b[i] = code(i, 2);
    EXPECT_RUNS(multiply_e4m3, {dim3(1), dim3(32)}, a.data(), b.data(), d.data());
    for (int i = 0; i < 16 * 8; i++) {
      const int row = i / 8, column = i % 8, lane = row % 8 * 4 + column / 2;
      double sum = lane + row / 8 * 2 + column % 2;
      for (int k = 0; k < 32; k++)
        sum += number_of(code(static_cast<size_t>(row * 32 + k), 1)) *
               number_of(code(static_cast<size_t>(column * 32 + k), 2));
      EXPECT(d[static_cast<size_t>(i)] == static_cast<float>(sum));
    }
  });
}

static __global__ void convert(const float* from, uint32_t* to) {
  to[threadIdx.x] = simt::pack_e4m3(from[2 * threadIdx.x], from[2 * threadIdx.x + 1]);
}

// Each number, the middle between it and the next, and the values beside that.
MOEPP_TEST(simt_float8_conversion_rounds_to_even) {
  std::vector<std::pair<float, int>> cases;
  for (int code = 0; code < 0x7e; code++) {
    const auto low = static_cast<float>(number_of(code)),
               high = static_cast<float>(number_of(code + 1)), middle = (low + high) / 2;
    cases.push_back({low, code});
    cases.push_back({middle, code % 2 == 0 ? code : code + 1});
    cases.push_back({std::nextafter(middle, 0.0f), code});
    cases.push_back({std::nextafter(middle, high), code + 1});
  }
  for (const float large : {448.0f, 463.9f, 464.0f, 480.0f, 1e30f, HUGE_VALF})
    cases.push_back({large, 0x7e});
  while (cases.size() % 32 != 0) cases.push_back({0x1p-149f, 0});
  Shared<float> from(2 * cases.size());
  Shared<uint32_t> to(cases.size());
  for (size_t i = 0; i < cases.size(); i++) {
    from[2 * i] = cases[i].first;
    from[2 * i + 1] = -cases[i].first;
  }
  EXPECT(cases.size() <= 1024);
  EXPECT_RUNS(convert, {dim3(1), dim3(static_cast<unsigned>(cases.size()))}, from.data(),
              to.data());
  for (size_t i = 0; i < cases.size(); i++) {
    const auto code = static_cast<uint32_t>(cases[i].second);
    EXPECT_MESSAGE(to[i] == (code | (code | 0x80) << 8), std::to_string(cases[i].first));
  }
  from[0] = NAN, from[1] = 1.0f;
  EXPECT_RUNS(convert, {dim3(1), dim3(32)}, from.data(), to.data());
  EXPECT(to[0] == (0x7fu | 0x38u << 8));
}

}  // namespace moepp::simt_test
