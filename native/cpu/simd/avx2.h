// AVX2 and FMA, with AVX-VNNI where the set has it. simd.h and simd_int8.h say what each function
// does.

// One line per function.
// clang-format off

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
inline void keep_in_register(Vf& a) { __asm__ volatile("" : "+x"(a.v)); }
inline Vf exact_fma(Vf a, Vf b, Vf c) { return fma(a, b, c); }

constexpr bool kBiasedWeights = true;
struct Words { __m256i v; };
struct Sums { __m256i v; };
inline Sums set_sums(int32_t x) { return {_mm256_set1_epi32(x)}; }
inline Vf to_float(Sums a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline Words load_words(const uint8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline void store_words(uint8_t* p, Words a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
inline Words low_halves(Words a) { return {_mm256_and_si256(a.v, _mm256_set1_epi8(15))}; }
inline Words high_halves(Words a) { return {_mm256_and_si256(_mm256_srli_epi16(a.v, 4), _mm256_set1_epi8(15))}; }
inline Words multiply_add_16(Words a, Words b, Words c) { return {_mm256_add_epi16(_mm256_mullo_epi16(a.v, b.v), c.v)}; }
inline Words load_pairs_16(const uint16_t* p) {
  const __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {_mm256_or_si256(v, _mm256_slli_epi32(v, 16))};
}
inline Words shift_right_16(Words a, int n) { return {_mm256_srli_epi16(a.v, n)}; }
inline Words set_16(int x) { return {_mm256_set1_epi16(static_cast<int16_t>(x))}; }
inline Sums low_bits(Words a, int bits) { return {_mm256_and_si256(a.v, _mm256_set1_epi32(bits))}; }
inline Sums add_product_16(Sums a, Sums b, Sums c) { return {_mm256_add_epi32(a.v, _mm256_madd_epi16(b.v, c.v))}; }
inline Words and_words(Words a, Words b) { return {_mm256_and_si256(a.v, b.v)}; }
inline void store_int8(int8_t* p, Vf a) {
  const __m256i v = _mm256_cvtps_epi32(a.v);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
}

#if defined(__AVXVNNI__)
typedef Words Weights;
struct Inputs { __m256i v; };
inline Weights prepare(Words a) { return a; }
inline Inputs broadcast(const int8_t* p) { return {_mm256_set1_epi32(word_of(p))}; }
inline Sums dot(Sums a, Weights w, Inputs x) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(a.v) : "x"(w.v), "x"(x.v));
  return a;
}
#else
struct Weights { __m256i even, odd; };
struct Inputs { __m256i even, odd; };
inline Weights prepare(Words a) { return {_mm256_and_si256(a.v, _mm256_set1_epi16(255)), _mm256_srli_epi16(a.v, 8)}; }
inline Inputs broadcast(const int8_t* p) {
  const __m256i v = _mm256_set1_epi32(word_of(p));
  return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}
inline Sums dot(Sums a, Weights w, Inputs x) {
  return {_mm256_add_epi32(_mm256_add_epi32(a.v, _mm256_madd_epi16(w.even, x.even)), _mm256_madd_epi16(w.odd, x.odd))};
}
#endif
inline Weights prepare_halves(Words a) { return prepare(a); }
