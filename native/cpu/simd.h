// Vectors of f32 for the kernels, written once per instruction set. A file that includes this is
// compiled once per set with that set's flags. It does so inside a namespace of its own (isa/*.cc),
// so that no inline function is shared between sets.
//
// Vf holds kLanes floats. The _n forms touch the first n lanes only (0 <= n <= kLanes); first_n and
// loads fill the others with zero. max and min return their second argument when either is a NaN.
// sum and highest take the lanes in a fixed order. bf16 stores round to nearest, ties to even.
#if defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// Before a loop over an array of vectors with a constant bound: unrolled early, or gcc keeps the
// array in memory.
#if defined(__clang__)
#define MOEPP_UNROLL _Pragma("unroll")
#else
#define MOEPP_UNROLL _Pragma("GCC unroll 32")
#endif

// One line per function.
// clang-format off
#if defined(__AVX512F__)

constexpr int kLanes = 16;
struct Vf { __m512 v; };

inline Vf set1(float x) { return {_mm512_set1_ps(x)}; }
inline Vf load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
inline Vf load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
inline void store(float* p, Vf a) { _mm512_storeu_ps(p, a.v); }
inline void store_n(float* p, Vf a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
inline Vf operator+(Vf a, Vf b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vf operator-(Vf a, Vf b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vf operator*(Vf a, Vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vf operator/(Vf a, Vf b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vf fma(Vf a, Vf b, Vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }  // a * b + c
inline Vf max(Vf a, Vf b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vf min(Vf a, Vf b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vf first_n(Vf a, int n) { return {_mm512_maskz_mov_ps(first_lanes(n), a.v)}; }
inline float sum(Vf a) { return _mm512_reduce_add_ps(a.v); }
inline float highest(Vf a) { return _mm512_reduce_max_ps(a.v); }
inline unsigned at_least(Vf a, Vf b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }  // bit i: a[i] >= b[i]; NaNs are not
inline Vf round(Vf a) { return {_mm512_roundscale_ps(a.v, 8)}; }
inline Vf scale_by_power_of_2(Vf a, Vf n) { return {_mm512_scalef_ps(a.v, n.v)}; }  // a * 2^n, n integral
inline Vf widen(__m256i bits) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}; }
// kLanes bf16 values.
inline Vf load_bf16(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline Vf load_bf16_n(const uint16_t* p, int n) { return widen(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline __m256i narrow(Vf a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));  // a NaN must not round to infinity
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}
inline void store_bf16(uint16_t* p, Vf a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(a)); }
inline void store_bf16_n(uint16_t* p, Vf a, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(a)); }
#if defined(__AVX512BF16__)
// One pair of bf16 values in every lane.
inline Vf set1_pair(const void* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return {_mm512_castsi512_ps(_mm512_set1_epi32(bits))};
}
// sum + a * b for pairs of bf16. The product of the odd members is added first, then that of the
// even ones, each sum rounded once. Anything below 2^-126 counts as zero. As assembly, since the
// intrinsic wants types of its own.
inline Vf add_pair_products(Vf a, Vf b, Vf sum) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
#endif
// 2 kLanes bf16 values as pairs: the even and the odd members.
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  const __m512i bits = _mm512_loadu_si512(p);
  even->v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  odd->v = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

#elif defined(__AVX2__)

constexpr int kLanes = 8;
struct Vf { __m256 v; };

inline Vf set1(float x) { return {_mm256_set1_ps(x)}; }
inline Vf load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
inline Vf load_n(const float* p, int n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
inline void store(float* p, Vf a) { _mm256_storeu_ps(p, a.v); }
inline void store_n(float* p, Vf a, int n) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }
inline Vf operator+(Vf a, Vf b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vf operator-(Vf a, Vf b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vf operator*(Vf a, Vf b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vf operator/(Vf a, Vf b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vf fma(Vf a, Vf b, Vf c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vf max(Vf a, Vf b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vf min(Vf a, Vf b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vf first_n(Vf a, int n) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(first_lanes(n)))}; }
inline float sum(Vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
inline float highest(Vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
inline unsigned at_least(Vf a, Vf b) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ))); }
inline Vf round(Vf a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline __m256 power_of_2(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
inline Vf scale_by_power_of_2(Vf a, Vf n) {  // a * 2^n, n integral, |n| <= 252: in two halves, since 2^n may not be normal
  const __m256i whole = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(whole, 1);
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, power_of_2(half)), power_of_2(_mm256_sub_epi32(whole, half)))};
}
inline Vf widen(__m128i bits) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))}; }
inline Vf load_bf16(const uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Vf load_bf16_n(const uint16_t* p, int n) {
  uint16_t lanes[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return load_bf16(lanes);
}
inline void store_bf16(uint16_t* p, Vf a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));  // a NaN must not round to infinity
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m128i narrow = _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow);
}
inline void store_bf16_n(uint16_t* p, Vf a, int n) {
  uint16_t lanes[8];
  store_bf16(lanes, a);
  for (int i = 0; i < n; i++) p[i] = lanes[i];
}
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  even->v = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  odd->v = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

#elif defined(__ARM_NEON)

constexpr int kLanes = 4;
struct Vf { float32x4_t v; };

inline Vf set1(float x) { return {vdupq_n_f32(x)}; }
inline Vf load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, Vf a) { vst1q_f32(p, a.v); }
inline Vf load_n(const float* p, int n) {
  float lanes[4] = {0, 0, 0, 0};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return load(lanes);
}
inline void store_n(float* p, Vf a, int n) {
  float lanes[4];
  store(lanes, a);
  for (int i = 0; i < n; i++) p[i] = lanes[i];
}
inline Vf operator+(Vf a, Vf b) { return {vaddq_f32(a.v, b.v)}; }
inline Vf operator-(Vf a, Vf b) { return {vsubq_f32(a.v, b.v)}; }
inline Vf operator*(Vf a, Vf b) { return {vmulq_f32(a.v, b.v)}; }
inline Vf operator/(Vf a, Vf b) { return {vdivq_f32(a.v, b.v)}; }
inline Vf fma(Vf a, Vf b, Vf c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline Vf max(Vf a, Vf b) { return {vmaxq_f32(a.v, b.v)}; }
inline Vf min(Vf a, Vf b) { return {vminq_f32(a.v, b.v)}; }
inline Vf first_n(Vf a, int n) {
  float lanes[4];
  store(lanes, a);
  return load_n(lanes, n);
}
inline float sum(Vf a) { return vaddvq_f32(a.v); }
inline float highest(Vf a) { return vmaxvq_f32(a.v); }
inline unsigned at_least(Vf a, Vf b) {
  const uint32x4_t bits = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(vcgeq_f32(a.v, b.v), bits));
}
inline Vf round(Vf a) { return {vrndnq_f32(a.v)}; }
inline float32x4_t power_of_2(int32x4_t n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)); }
inline Vf scale_by_power_of_2(Vf a, Vf n) {  // a * 2^n, n integral, |n| <= 252: in two halves, since 2^n may not be normal
  const int32x4_t whole = vcvtnq_s32_f32(n.v), half = vshrq_n_s32(whole, 1);
  return {vmulq_f32(vmulq_f32(a.v, power_of_2(half)), power_of_2(vsubq_s32(whole, half)))};
}
inline Vf load_bf16(const uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
inline Vf load_bf16_n(const uint16_t* p, int n) {
  uint16_t lanes[4] = {0, 0, 0, 0};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return load_bf16(lanes);
}
inline void store_bf16(uint16_t* p, Vf a) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, odd), vdupq_n_u32(0x7fff));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));  // a NaN must not round to infinity
  vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(a.v, a.v), rounded, quiet), 16));
}
inline void store_bf16_n(uint16_t* p, Vf a, int n) {
  uint16_t lanes[4];
  store_bf16(lanes, a);
  for (int i = 0; i < n; i++) p[i] = lanes[i];
}
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  const uint32x4_t bits = vreinterpretq_u32_u16(vld1q_u16(p));
  even->v = vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
  odd->v = vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
}

#else  // scalar: four lanes, so that the kernels' shapes stay the same; the compiler makes of them what the baseline has

constexpr int kLanes = 4;
typedef float FourFloats __attribute__((vector_size(16)));
struct Vf { FourFloats v; };

#define MOEPP_LANES(expression)                      \
  Vf r;                                              \
  for (int i = 0; i < 4; i++) r.v[i] = (expression); \
  return r
inline Vf set1(float x) { return {FourFloats{x, x, x, x}}; }
inline Vf load(const float* p) { return {FourFloats{p[0], p[1], p[2], p[3]}}; }
inline Vf load_n(const float* p, int n) { MOEPP_LANES(i < n ? p[i] : 0.0f); }
inline void store(float* p, Vf a) { __builtin_memcpy(p, &a.v, 16); }
inline void store_n(float* p, Vf a, int n) { for (int i = 0; i < n; i++) p[i] = a.v[i]; }
inline Vf operator+(Vf a, Vf b) { return {a.v + b.v}; }
inline Vf operator-(Vf a, Vf b) { return {a.v - b.v}; }
inline Vf operator*(Vf a, Vf b) { return {a.v * b.v}; }
inline Vf operator/(Vf a, Vf b) { return {a.v / b.v}; }
inline Vf fma(Vf a, Vf b, Vf c) { return {a.v * b.v + c.v}; }  // rounds twice
inline Vf max(Vf a, Vf b) { return {a.v > b.v ? a.v : b.v}; }
inline Vf min(Vf a, Vf b) { return {a.v < b.v ? a.v : b.v}; }
inline Vf first_n(Vf a, int n) { MOEPP_LANES(i < n ? a.v[i] : 0.0f); }
inline float sum(Vf a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float highest(Vf a) {
  const float x = a.v[0] > a.v[1] ? a.v[0] : a.v[1], y = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
  return x > y ? x : y;
}
inline unsigned at_least(Vf a, Vf b) {
  unsigned lanes = 0;
  for (int i = 0; i < 4; i++) lanes |= (a.v[i] >= b.v[i] ? 1u : 0u) << i;
  return lanes;
}
inline Vf round(Vf a) { return (a + set1(12582912.0f)) - set1(12582912.0f); }  // |a| < 2^22: 1.5 * 2^23 pushes the fraction out
inline float power_of_2(uint32_t n) {
  const uint32_t bits = (n + 127u) << 23;
  float power;
  __builtin_memcpy(&power, &bits, 4);
  return power;
}
inline Vf scale_by_power_of_2(Vf a, Vf n) {  // a * 2^n, n integral, |n| <= 252: in two halves, since 2^n may not be normal
  const Vf shifted = n + set1(12582912.0f);  // its low bits are n; no cast to an integer, which a NaN would make undefined
  Vf r;
  for (int i = 0; i < 4; i++) {
    uint32_t bits;
    const float lane = shifted.v[i];
    __builtin_memcpy(&bits, &lane, 4);
    const uint32_t whole = bits - 0x4b400000u, half = (whole >> 1) | (whole & 0x80000000u);
    r.v[i] = a.v[i] * power_of_2(half) * power_of_2(whole - half);
  }
  return r;
}
inline Vf load_bf16(const uint16_t* p) { MOEPP_LANES(bf16_to_f32(p[i])); }
inline Vf load_bf16_n(const uint16_t* p, int n) { MOEPP_LANES(i < n ? bf16_to_f32(p[i]) : 0.0f); }
inline void store_bf16_n(uint16_t* p, Vf a, int n) { for (int i = 0; i < n; i++) p[i] = f32_to_bf16(a.v[i]); }
inline void store_bf16(uint16_t* p, Vf a) { store_bf16_n(p, a, 4); }
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {  // little-endian, as every processor here is
  typedef uint32_t FourWords __attribute__((vector_size(16)));
  FourWords bits;
  __builtin_memcpy(&bits, p, 16);
  const FourWords low = bits << 16, high = bits & 0xffff0000u;
  __builtin_memcpy(&even->v, &low, 16);
  __builtin_memcpy(&odd->v, &high, 16);
}
#undef MOEPP_LANES

#endif
// clang-format on

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

// Without this after each product GCC 12 moves a tile's sums through memory in the 6 x 2 tiles of
// AVX2. A GEMM of 512 rows reaches 67 % of the f32 ceiling, 94 % with it (2-core AMD EPYC, Zen 5).
inline void keep_in_register(Vf& a) {
#if defined(__AVX512F__)
  __asm__ volatile("" : "+v"(a.v));
#elif defined(__x86_64__)
  __asm__ volatile("" : "+x"(a.v));
#elif defined(__ARM_NEON)
  __asm__ volatile("" : "+w"(a.v));
#endif
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
