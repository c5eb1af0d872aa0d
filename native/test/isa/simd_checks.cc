#include "simd_checks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "tensor.h"

namespace moepp::test::MOEPP_ISA {

#include "cpu/simd.h"

static void exp_all(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, exp(load(x + i)));
}

static void exp2_nonpositive_all(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, exp2_nonpositive(load(x + i)));
}

static float exp_one(float x) {
  return exp(x);
}

static void narrow_all(const float* x, uint16_t* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(y + i, load(x + i));
}

static void operations(const float* a, const float* b, int n, float* out) {
  const Vf x = load(a), y = load(b);
  const Vf results[] = {x + y,
                        x - y,
                        x * y,
                        x / y,
                        fma(x, y, x),
                        max(x, y),
                        min(x, y),
                        round(x),
                        load_n(a, n),
                        first_n(x, n),
                        set1(sum(x)),
                        set1(highest(x)),
                        set1(lane0(set1(a[0]))),
                        set1(static_cast<float>(at_least(x, y))),
                        set1(static_cast<float>(at_least(x, set1(b[0])) & at_least(set1(b[0]), x))),
                        set1(static_cast<float>(at_least(set1(__builtin_nanf("")), x))),
                        scale_by_power_of_2(x, round(y))};
  for (const Vf& result : results) {
    store(out, result);
    out += kLanes;
  }
  store_n(out, x, n);
}

static void bf16_loads(const uint16_t* p, int n, float* out) {
  Vf even, odd;
  load_bf16_pairs(p, &even, &odd);
  store(out, load(p));
  store(out + kLanes, load_n(p, n));
  store(out + 2 * kLanes, even);
  store(out + 3 * kLanes, odd);
}

const SimdChecks checks = {kLanes,      &exp_all,    &exp_one,   &exp2_nonpositive_all,
                           &narrow_all, &operations, &bf16_loads};

}  // namespace moepp::test::MOEPP_ISA
