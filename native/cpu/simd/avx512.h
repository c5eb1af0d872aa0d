// AVX-512, with VNNI and BF16 where the set has them. simd.h and simd_int8.h say what each function
// does.

// One line per function.
// clang-format off

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
inline Vf fma(Vf a, Vf b, Vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vf max(Vf a, Vf b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vf min(Vf a, Vf b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vf first_n(Vf a, int n) { return {_mm512_maskz_mov_ps(first_lanes(n), a.v)}; }
inline float sum(Vf a) { return _mm512_reduce_add_ps(a.v); }
inline float highest(Vf a) { return _mm512_reduce_max_ps(a.v); }
inline unsigned at_least(Vf a, Vf b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ); }
inline Vf round(Vf a) { return {_mm512_roundscale_ps(a.v, 8)}; }
inline Vf scale_by_power_of_2(Vf a, Vf n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline Vf widen(__m256i bits) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))}; }
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
inline Vf set1_pair(const void* pair) {
  int32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return {_mm512_castsi512_ps(_mm512_set1_epi32(bits))};
}
// The product of the odd members is added first, then that of the even ones, each sum rounded
// once. Anything below 2^-126 counts as zero. As assembly, since the intrinsic wants types of its
// own.
inline Vf add_pair_products(Vf a, Vf b, Vf sum) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
}
inline Vf member(Vf pairs, int which) {
  const int mask = which == 0 ? 0xffff : static_cast<int>(0xffff0000u);
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs.v), _mm512_set1_epi32(mask)))};
}
inline Vf rounded_pairs(Vf first, Vf second) {
  return {_mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(second.v, first.v))};
}
#endif
inline void load_bf16_pairs(const uint16_t* p, Vf* even, Vf* odd) {
  const __m512i bits = _mm512_loadu_si512(p);
  even->v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  odd->v = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline void keep_in_register(Vf& a) { __asm__ volatile("" : "+v"(a.v)); }
inline Vf exact_fma(Vf a, Vf b, Vf c) { return fma(a, b, c); }

constexpr bool kBiasedWeights = true;
struct Words { __m512i v; };
struct Sums { __m512i v; };
inline Sums set_sums(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Vf to_float(Sums a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline Words load_words(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_words(uint8_t* p, Words a) { _mm512_storeu_si512(p, a.v); }
inline Words low_halves(Words a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
inline Words high_halves(Words a) { return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))}; }
inline Words multiply_add_16(Words a, Words b, Words c) { return {_mm512_add_epi16(_mm512_mullo_epi16(a.v, b.v), c.v)}; }
inline Words load_pairs_16(const uint16_t* p) {
  const __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_or_si512(v, _mm512_slli_epi32(v, 16))};
}
inline Words shift_right_16(Words a, int n) { return {_mm512_srli_epi16(a.v, static_cast<unsigned>(n))}; }
inline Words set_16(int x) { return {_mm512_set1_epi16(static_cast<int16_t>(x))}; }
inline Sums low_bits(Words a, int bits) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(bits))}; }
inline Sums add_product_16(Sums a, Sums b, Sums c) { return {_mm512_add_epi32(a.v, _mm512_madd_epi16(b.v, c.v))}; }
inline Words and_words(Words a, Words b) { return {_mm512_and_si512(a.v, b.v)}; }
inline void store_int8(int8_t* p, Vf a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v))); }

#if defined(__AVX512VNNI__)
typedef Words Weights;
struct Inputs { __m512i v; };
inline Weights prepare(Words a) { return a; }
inline Inputs broadcast(const int8_t* p) { return {_mm512_set1_epi32(word_of(p))}; }
inline Sums dot(Sums a, Weights w, Inputs x) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(a.v) : "v"(w.v), "v"(x.v));
  return a;
}
#else
struct Weights { __m512i even, odd; };
struct Inputs { __m512i even, odd; };
inline Weights prepare(Words a) { return {_mm512_and_si512(a.v, _mm512_set1_epi16(255)), _mm512_srli_epi16(a.v, 8)}; }
inline Inputs broadcast(const int8_t* p) {
  const __m512i v = _mm512_set1_epi32(word_of(p));
  return {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), _mm512_srai_epi16(v, 8)};
}
inline Sums dot(Sums a, Weights w, Inputs x) {
  return {_mm512_add_epi32(_mm512_add_epi32(a.v, _mm512_madd_epi16(w.even, x.even)), _mm512_madd_epi16(w.odd, x.odd))};
}
#endif
inline Weights prepare_halves(Words a) { return prepare(a); }
