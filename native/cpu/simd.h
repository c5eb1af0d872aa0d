// Vectors of f32 for the kernels, written once per instruction set. A file that includes this is compiled once per set with
// that set's flags, inside a namespace of its own (isa/*.cc), so that no inline function is shared between sets.
//
// Vf holds kLanes floats. load_n and store_n touch the first n lanes only (0 <= n <= kLanes); load_n fills with zero.
#if defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

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
inline float sum(Vf a) { return _mm512_reduce_add_ps(a.v); }
inline float highest(Vf a) { return _mm512_reduce_max_ps(a.v); }
inline Vf round(Vf a) { return {_mm512_roundscale_ps(a.v, 8)}; }
inline Vf scale_by_power_of_2(Vf a, Vf n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// kLanes bf16 values.
inline Vf load_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16))};
}
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
inline Vf round(Vf a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vf scale_by_power_of_2(Vf a, Vf n) {  // n integral, 2^n normal
  const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127)), 23);
  return {_mm256_mul_ps(a.v, _mm256_castsi256_ps(bits))};
}
inline Vf load_bf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16))};
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
inline float sum(Vf a) { return vaddvq_f32(a.v); }
inline float highest(Vf a) { return vmaxvq_f32(a.v); }
inline Vf round(Vf a) { return {vrndnq_f32(a.v)}; }
inline Vf scale_by_power_of_2(Vf a, Vf n) {
  const int32x4_t bits = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n.v), vdupq_n_s32(127)), 23);
  return {vmulq_f32(a.v, vreinterpretq_f32_s32(bits))};
}
inline Vf load_bf16(const uint16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16))}; }
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  const uint32x4_t bits = vreinterpretq_u32_u16(vld1q_u16(p));
  even->v = vreinterpretq_f32_u32(vshlq_n_u32(bits, 16));
  odd->v = vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
}

#else  // scalar: four lanes, so that the kernels' shapes stay the same; the compiler may use SSE2

constexpr int kLanes = 4;
struct Vf { float v[4]; };

#define MOEPP_LANES(expression) \
  Vf r;                         \
  for (int i = 0; i < 4; i++) r.v[i] = (expression); \
  return r
inline Vf set1(float x) { MOEPP_LANES(x); }
inline Vf load(const float* p) { MOEPP_LANES(p[i]); }
inline Vf load_n(const float* p, int n) { MOEPP_LANES(i < n ? p[i] : 0.0f); }
inline void store(float* p, Vf a) { for (int i = 0; i < 4; i++) p[i] = a.v[i]; }
inline void store_n(float* p, Vf a, int n) { for (int i = 0; i < n; i++) p[i] = a.v[i]; }
inline Vf operator+(Vf a, Vf b) { MOEPP_LANES(a.v[i] + b.v[i]); }
inline Vf operator-(Vf a, Vf b) { MOEPP_LANES(a.v[i] - b.v[i]); }
inline Vf operator*(Vf a, Vf b) { MOEPP_LANES(a.v[i] * b.v[i]); }
inline Vf operator/(Vf a, Vf b) { MOEPP_LANES(a.v[i] / b.v[i]); }
inline Vf fma(Vf a, Vf b, Vf c) { MOEPP_LANES(a.v[i] * b.v[i] + c.v[i]); }
inline Vf max(Vf a, Vf b) { MOEPP_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
inline Vf min(Vf a, Vf b) { MOEPP_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
inline float sum(Vf a) { return (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]); }
inline float highest(Vf a) {
  const float x = a.v[0] > a.v[1] ? a.v[0] : a.v[1], y = a.v[2] > a.v[3] ? a.v[2] : a.v[3];
  return x > y ? x : y;
}
inline Vf round(Vf a) { MOEPP_LANES((a.v[i] + 12582912.0f) - 12582912.0f); }  // |a| < 2^22: 1.5 * 2^23 pushes the fraction out
inline Vf scale_by_power_of_2(Vf a, Vf n) {
  Vf r;
  for (int i = 0; i < 4; i++) {
    const int32_t bits = (static_cast<int32_t>(n.v[i]) + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, 4);
    r.v[i] = a.v[i] * power;
  }
  return r;
}
inline Vf load_bf16(const uint16_t* p) { MOEPP_LANES(bf16_to_f32(p[i])); }
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  for (int i = 0; i < 4; i++) {
    even->v[i] = bf16_to_f32(p[2 * i]);
    odd->v[i] = bf16_to_f32(p[2 * i + 1]);
  }
}
#undef MOEPP_LANES

#endif

// e^x to about 1 ulp: x = n ln 2 + r, |r| <= ln 2 / 2, degree 6 polynomial in r. Clamped to [-87, 88]: below, about 1e-38.
inline Vf exp(Vf x) {
  x = min(max(x, set1(-87.0f)), set1(88.0f));
  const Vf n = round(x * set1(1.44269504088896341f));
  Vf r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  Vf p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p, r * r, r + set1(1.0f));
  return scale_by_power_of_2(p, n);
}
