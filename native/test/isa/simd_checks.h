// simd_test.cc's demands on one instruction set's vectors. simd_checks.cc is compiled once per set,
// with that set's flags.
#pragma once

#include <cstdint>

namespace moepp::test {

struct SimdChecks {
  int lanes;
  void (*exp)(const float* x, float* y, int64_t n);  // n a multiple of lanes
  float (*exp_one)(float x);
  void (*exp2_nonpositive)(const float* x, float* y, int64_t n);  // n a multiple of lanes
  void (*narrow)(const float* x, uint16_t* y, int64_t n);         // to bf16
  // Runs every operation on the vectors at a and b, with partial loads and stores of n lanes; see
  // simd_test.cc for the order.
  void (*operations)(const float* a, const float* b, int n, float* out);
  void (*bf16_loads)(const uint16_t* p, int n, float* out);  // load, load_n, pairs even, pairs odd
};

namespace scalar {
extern const SimdChecks checks;
}
namespace avx2 {
extern const SimdChecks checks;
}
namespace avx512 {
extern const SimdChecks checks;
}
namespace neon {
extern const SimdChecks checks;
}

}  // namespace moepp::test
