// Four lanes, so that the kernels have the same shapes. The compiler makes of them what the
// baseline has. simd.h and simd_int8.h say what each function does.

// One line per function.
// clang-format off

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
inline void keep_in_register(Vf& a) {
#if defined(__x86_64__)
  __asm__ volatile("" : "+x"(a.v));
#endif
}
inline Vf exact_fma(Vf a, Vf b, Vf c) {
  MOEPP_UNROLL for (int i = 0; i < kLanes; i++) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}

constexpr bool kBiasedWeights = true;
typedef uint32_t FourWords __attribute__((vector_size(16)));
typedef int32_t FourSums __attribute__((vector_size(16)));
struct Words { FourWords v; };
struct Sums { FourSums v; };
inline Sums set_sums(int32_t x) { return {FourSums{x, x, x, x}}; }
inline Vf to_float(Sums a) { return {__builtin_convertvector(a.v, FourFloats)}; }
inline Words load_words(const uint8_t* p) { Words a; __builtin_memcpy(&a.v, p, 16); return a; }
inline void store_words(uint8_t* p, Words a) { __builtin_memcpy(p, &a.v, 16); }
inline Words low_halves(Words a) { return {a.v & 0x0f0f0f0fu}; }
inline Words high_halves(Words a) { return {a.v >> 4 & 0x0f0f0f0fu}; }
typedef uint16_t EightHalves __attribute__((vector_size(16)));
inline Words multiply_add_16(Words a, Words b, Words c) { return {reinterpret_cast<FourWords>(reinterpret_cast<EightHalves>(a.v) * reinterpret_cast<EightHalves>(b.v) + reinterpret_cast<EightHalves>(c.v))}; }
inline Words load_pairs_16(const uint16_t* p) {
  const FourWords v = {p[0], p[1], p[2], p[3]};
  return {v | v << 16};
}
inline Words shift_right_16(Words a, int n) { return {reinterpret_cast<FourWords>(reinterpret_cast<EightHalves>(a.v) >> static_cast<uint16_t>(n))}; }
inline Words set_16(int x) { const uint32_t w = static_cast<uint32_t>(x & 0xffff) * 0x10001u; return {FourWords{w, w, w, w}}; }
inline Words and_words(Words a, Words b) { return {a.v & b.v}; }
inline Sums low_bits(Words a, int bits) { return {reinterpret_cast<FourSums>(a.v) & bits}; }
inline Sums add_product_16(Sums a, Sums b, Sums c) { return {a.v + b.v * (c.v << 16 >> 16)}; }
inline void store_int8(int8_t* p, Vf a) { for (int i = 0; i < 4; i++) p[i] = static_cast<int8_t>(static_cast<int32_t>(a.v[i])); }

#if defined(__SSE2__)
struct Weights { __m128i even, odd; };
struct Inputs { __m128i even, odd; };
inline Weights prepare(Words a) {
  const __m128i v = reinterpret_cast<__m128i>(a.v);
  return {_mm_and_si128(v, _mm_set1_epi16(255)), _mm_srli_epi16(v, 8)};
}
inline Inputs broadcast(const int8_t* p) {
  const __m128i v = _mm_set1_epi32(word_of(p));
  return {_mm_srai_epi16(_mm_slli_epi16(v, 8), 8), _mm_srai_epi16(v, 8)};
}
inline Sums dot(Sums a, Weights w, Inputs x) {
  return {a.v + reinterpret_cast<FourSums>(_mm_madd_epi16(w.even, x.even)) + reinterpret_cast<FourSums>(_mm_madd_epi16(w.odd, x.odd))};
}
#else
typedef Words Weights;
struct Inputs { int32_t k[4]; };
inline Weights prepare(Words a) { return a; }
inline Inputs broadcast(const int8_t* p) { return {{p[0], p[1], p[2], p[3]}}; }
inline Sums dot(Sums a, Weights w, Inputs x) {
  MOEPP_UNROLL for (int i = 0; i < 4; i++) a.v += reinterpret_cast<FourSums>(w.v >> (8 * i) & 255u) * x.k[i];
  return a;
}
#endif
inline Weights prepare_halves(Words a) { return prepare(a); }
