// Vectors of f32 for the kernels, written once per instruction set: simd/<set>.h. A file that
// includes this is compiled once per set with that set's flags. It does so inside a namespace of
// its own (isa/*.cc), so that no inline function is shared between sets.
//
// Vf holds kLanes floats. Beside arithmetic every set has:
//   load_n, store_n, first_n  the first n lanes only, 0 <= n <= kLanes; loads and first_n fill the
//                             others with zero
//   fma                       a * b + c
//   max, min                  the second argument when either is a NaN
//   sum, highest              of the lanes, taken in a fixed order
//   at_least                  bit i: a[i] >= b[i]; a NaN is not
//   round                     to the nearest integer, ties to even
//   scale_by_power_of_2       a * 2^n, n integral
//   load_bf16, store_bf16     kLanes bf16 values; stores round to nearest, ties to even
//   load_bf16_pairs           2 kLanes bf16 values: the even and the odd members of pairs
//   keep_in_register          nothing. Without it after each product GCC 12 moves a tile's sums
//                             through memory in the 6 x 2 tiles of AVX2. A GEMM of 512 rows reaches
//                             67 % of the f32 ceiling, 94 % with it (2-core AMD EPYC, Zen 5).
// Sets that multiply pairs of bf16 (MOEPP_HAS_PAIRS) have, for kLanes pairs as the bits of a Vf:
//   set1_pair                 one pair in every lane
//   add_pair_products         sum + a * b, both products of each lane; the set says how it rounds
//   member                    the pairs with 0 for the odd member (which = 0), or for the even one
//   rounded_pairs             2 kLanes values, rounded to bf16
// simd_int8.h has the products of 8-bit integers. Intrinsics are included outside the namespace.

// Before a loop over an array of vectors with a constant bound: unrolled early, or gcc keeps the
// array in memory.
#if defined(__clang__)
#define MOEPP_UNROLL _Pragma("unroll")
#else
#define MOEPP_UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define MOEPP_HAS_PAIRS 1
#endif

inline int32_t word_of(const int8_t* p) {
  int32_t w;
  __builtin_memcpy(&w, p, 4);
  return w;
}

#if defined(__AVX512F__)
#include "simd/avx512.h"
#elif defined(__AVX2__)
#include "simd/avx2.h"
#elif defined(__ARM_NEON)
#include "simd/neon.h"
#else
#include "simd/scalar.h"
#endif

// The same names for f32 and bf16 memory.
inline Vf load(const uint16_t* p) {
  return load_bf16(p);
}
inline Vf load_n(const uint16_t* p, int n) {
  return load_bf16_n(p, n);
}
inline void store(uint16_t* p, Vf a) {
  store_bf16(p, a);
}
inline void store_n(uint16_t* p, Vf a, int n) {
  store_bf16_n(p, a, n);
}

// Any lane of a vector whose lanes are all equal.
inline float lane0(Vf a) {
  float x;
  store_n(&x, a, 1);
  return x;
}

// e^r - 1 and n, where x = n ln 2 + r and |r| <= ln 2 / 2. Source: Cephes, expf.
inline Vf exp_minus_1_of_rest(Vf x, Vf* n) {
  *n = round(x * set1(1.44269504088896341f));
  Vf r = fma(*n, set1(-0.693359375f), x);
  r = fma(*n, set1(2.12194440e-4f), r);
  Vf p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  return fma(p, r * r, r);
}

// e^x within one unit in the last place: 0 below -104, infinity above 88.73, subnormal results and
// NaN as they should be.
inline Vf exp(Vf x) {
  Vf n;
  const Vf p = exp_minus_1_of_rest(min(set1(89.0f), max(set1(-104.0f), x)), &n);
  return scale_by_power_of_2(p + set1(1.0f), n);
}

// The same for one value, by the same steps.
inline float exp(float x) {
  return lane0(exp(set1(x)));
}

// 2^x for x <= 0 within 1.2 units in the last place, or NaN; 0 below -150. Source: Cephes, exp2f.
inline Vf exp2_nonpositive(Vf x) {
  x = max(set1(-152.0f), x);
  const Vf n = round(x), r = x - n;
  Vf p = set1(1.535336188319500e-4f);
  p = fma(p, r, set1(1.339887440266574e-3f));
  p = fma(p, r, set1(9.618437357674640e-3f));
  p = fma(p, r, set1(5.550332471162809e-2f));
  p = fma(p, r, set1(2.402264791363012e-1f));
  p = fma(p, r, set1(6.931472028550421e-1f));
  return scale_by_power_of_2(fma(p, r, set1(1.0f)), n);
}
inline float exp2_nonpositive(float x) {
  return lane0(exp2_nonpositive(set1(x)));
}
