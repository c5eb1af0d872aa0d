// The vectors of every instruction set against plain C++.
#include "isa/simd_checks.h"

#include <algorithm>

#include "compare.h"
#include "cpu/isa/isa.h"
#include "test.h"

namespace moepp::test {

static const SimdChecks* checks_of(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "amx" || isa.rfind("avx512", 0) == 0) return &avx512::checks;
  if (isa == "avx2" || isa == "avxvnni") return &avx2::checks;
#elif defined(__ARM_NEON)
  if (isa.rfind("neon", 0) == 0) return &neon::checks;
#endif
  return &scalar::checks;
}

static float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Distance of two floats in units of the last place, over all f32: subnormals, and infinity as the
// step after the largest.
static double units(double exact, float actual) {
  int exponent;
  std::frexp(exact, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::abs(static_cast<double>(actual) - exact) / unit;
}

MOEPP_TEST(simd_exp_over_all_f32) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const SimdChecks& checks = *checks_of(isa.name);
    constexpr int64_t kBatch = 1 << 16;
    std::vector<float> x(kBatch), y(kBatch);
    double worst = 0.0;
    int64_t wrong = 0;
    for (uint64_t bits = 0; bits < uint64_t{1} << 32;) {
      // every 977th float there is
      for (float& value : x) value = from_bits(static_cast<uint32_t>(bits)), bits += 977;
      checks.exp(x.data(), y.data(), kBatch);
      for (size_t i = 0; i < x.size(); i++) {
        const double exact = std::exp(static_cast<double>(x[i]));
        if (std::isnan(x[i]) || exact > 0x1.fffffefp127) {
          wrong += std::isnan(x[i]) ? !std::isnan(y[i]) : !(y[i] > 3.4e38f);
        } else if (!std::isfinite(y[i])) {
          wrong += exact < 0x1.fffffdp127;  // within a unit of the largest f32, infinity will do
        } else {
          worst = std::max(worst, units(exact, y[i]));
        }
      }
    }
    char text[80];
    std::snprintf(text, sizeof text, "%s: off by %.3f units, %lld wrong", isa.name, worst,
                  static_cast<long long>(wrong));
    EXPECT_MESSAGE(wrong == 0 && worst < 1.0, text);
  }
}

MOEPP_TEST(simd_exp2_over_f32_to_zero) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const SimdChecks& checks = *checks_of(isa.name);
    constexpr int64_t kBatch = 1 << 16;
    std::vector<float> x(kBatch), y(kBatch);
    double worst = 0.0;
    for (uint64_t bits = 0x80000000u; bits <= 0xff800000u;) {  // -0 to minus infinity
      for (float& value : x)
        value = from_bits(static_cast<uint32_t>(std::min<uint64_t>(bits, 0xff800000u))),
        bits += 977;
      checks.exp2_nonpositive(x.data(), y.data(), kBatch);
      for (size_t i = 0; i < x.size(); i++)
        worst = std::max(worst, units(std::exp2(static_cast<double>(x[i])), y[i]));
    }
    EXPECT_MESSAGE(worst < 1.2,
                   std::string(isa.name) + ": off by " + std::to_string(worst) + " units");
    const std::vector<float> ends = {0.0f, -0.0f, -1.0f, -INFINITY};
    std::copy(ends.begin(), ends.end(), x.begin());
    x[4] = NAN;
    checks.exp2_nonpositive(x.data(), y.data(), kBatch);
    EXPECT_MESSAGE(y[0] == 1.0f && y[1] == 1.0f && y[2] == 0.5f && y[3] == 0.0f && std::isnan(y[4]),
                   isa.name);
  }
}

MOEPP_TEST(simd_exp_is_exact_at_the_ends) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const SimdChecks& checks = *checks_of(isa.name);
    EXPECT_MESSAGE(checks.exp_one(0.0f) == 1.0f && checks.exp_one(-0.0f) == 1.0f, isa.name);
    EXPECT_MESSAGE(checks.exp_one(-INFINITY) == 0.0f && checks.exp_one(-105.0f) == 0.0f, isa.name);
    EXPECT_MESSAGE(checks.exp_one(INFINITY) == INFINITY && checks.exp_one(89.0f) == INFINITY,
                   isa.name);
    EXPECT_MESSAGE(std::isnan(checks.exp_one(NAN)), isa.name);
  }
}

MOEPP_TEST(simd_rounds_to_bf16) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 4099)
    x.push_back(from_bits(static_cast<uint32_t>(bits)));
  for (uint32_t upper = 0; upper < 0x10000; upper++) {  // ties, and either side of them
    for (uint32_t lower : {0u, 0x7fffu, 0x8000u, 0x8001u})
      x.push_back(from_bits(upper << 16 | lower));
  }
  x.resize((x.size() + 15) / 16 * 16);
  for (const cpu::Isa& isa : cpu::available_isas()) {
    std::vector<uint16_t> y(x.size());
    checks_of(isa.name)->narrow(x.data(), y.data(), static_cast<int64_t>(x.size()));
    int64_t wrong = 0;
    for (size_t i = 0; i < x.size(); i++) wrong += y[i] != f32_to_bf16(x[i]);
    EXPECT_MESSAGE(wrong == 0, std::string(isa.name) + ": " + std::to_string(wrong) + " wrong");
  }
}

static float rounded(float x) {
  return std::nearbyint(x);
}

// The results of SimdChecks::operations for lane i, in its order.
static std::vector<Bounded> operations_of(const float* a, const float* b, int lanes, int n, int i) {
  const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
  double total = 0.0, magnitude = 0.0;
  for (int j = 0; j < lanes; j++)
    total += static_cast<double>(a[j]), magnitude += std::abs(static_cast<double>(a[j]));
  const double quotient = x / y, power = x * std::exp2(static_cast<double>(rounded(b[i])));
  const double partial = i < n ? x : 0.0;
  unsigned not_below = 0, equal = 0;
  for (int j = 0; j < lanes; j++) {
    not_below |= (a[j] >= b[j] ? 1u : 0u) << j;
    equal |= (a[j] == b[0] ? 1u : 0u) << j;
  }
  return {{x + y, kRoundoff * std::abs(x + y)},
          {x - y, kRoundoff * std::abs(x - y)},
          {x * y, kRoundoff * std::abs(x * y)},
          {quotient, kRoundoff * std::abs(quotient)},
          {x * y + x, 2.0 * kRoundoff * (std::abs(x * y) + std::abs(x))},
          {std::max(x, y), 0.0},
          {std::min(x, y), 0.0},
          {static_cast<double>(rounded(a[i])), 0.0},
          {partial, 0.0},
          {partial, 0.0},
          {total, sum_error(lanes, magnitude)},
          {static_cast<double>(*std::max_element(a, a + lanes)), 0.0},
          {static_cast<double>(a[0]), 0.0},
          {static_cast<double>(not_below), 0.0},
          {static_cast<double>(equal), 0.0},
          {0.0, 0.0},
          {power, 0.0}};
}

MOEPP_TEST(simd_operations) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const SimdChecks& checks = *checks_of(isa.name);
    const int lanes = checks.lanes;
    for (int n = 0; n <= lanes; n++) {
      std::vector<float> a(static_cast<size_t>(lanes)), b(a);
      fill(a.data(), lanes, static_cast<uint32_t>(n), 10.0f);
      fill(b.data(), lanes, static_cast<uint32_t>(n + 100), 10.0f);
      b[0] = a[static_cast<size_t>(lanes / 2)];
      const int count = static_cast<int>(operations_of(a.data(), b.data(), lanes, n, 0).size());
      Guarded<float> out(count * lanes + n);
      checks.operations(a.data(), b.data(), n, out.data());
      for (int i = 0; i < lanes; i++) {
        const std::vector<Bounded> expected = operations_of(a.data(), b.data(), lanes, n, i);
        for (int j = 0; j < count; j++) {
          const std::string text = difference(out[j * lanes + i], expected[static_cast<size_t>(j)]);
          EXPECT_MESSAGE(text.empty(),
                         std::string(isa.name) + " operation " + std::to_string(j) + ": " + text);
        }
      }
      EXPECT_MESSAGE(same_bits(out.data() + count * lanes, a.data(), static_cast<size_t>(n) * 4) &&
                         out.margins_intact(),
                     isa.name);
    }
  }
}

MOEPP_TEST(simd_loads_bf16) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const SimdChecks& checks = *checks_of(isa.name);
    const int lanes = checks.lanes;
    for (int n = 0; n <= lanes; n++) {
      std::vector<uint16_t> p(static_cast<size_t>(2 * lanes));
      for (size_t i = 0; i < p.size(); i++) p[i] = static_cast<uint16_t>(0x3f00 + 37 * i);
      Guarded<float> out(4 * lanes);
      checks.bf16_loads(p.data(), n, out.data());
      for (int i = 0; i < lanes; i++) {
        const auto at = [&](int index) { return bf16_to_f32(p[static_cast<size_t>(index)]); };
        EXPECT_MESSAGE(out[i] == at(i) && out[lanes + i] == (i < n ? at(i) : 0.0f), isa.name);
        EXPECT_MESSAGE(out[2 * lanes + i] == at(2 * i) && out[3 * lanes + i] == at(2 * i + 1),
                       isa.name);
      }
    }
  }
}

}  // namespace moepp::test
