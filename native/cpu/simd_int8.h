// Products of 8-bit integers summed in 32 bits, for the quantised GEMM
// (kernels/quantised_gemm.inl.h); included after simd.h.
//
// A vector of words covers kLanes rows of a weight and four k of each (panels.h): bytes q + 128 of
// int8, or halves of bytes.
//   Weights  such a vector, made ready for dot()
//   Inputs   four k of one row of activations, signed bytes within -127 .. 127, the same for all
//            lanes
//   dot      sums + products of four bytes and four bytes, in every lane; nothing saturates. Where
//            kBiasedWeights says so, the weights' bytes are unsigned, q + 128; else they are q. The
//            caller takes the excess, 128 * sum of the inputs, off beforehand.
// All sets give the same integers. Without an instruction for it, bytes are widened to 16 bits and
// multiplied in pairs: maddubs, which takes bytes, would saturate (2 * 255 * 127 > 32767). vpdpbusd
// stands as assembly: with the intrinsic, g++ 12 copies the sums of a tile through memory.
#pragma once

#if defined(__ARM_NEON)
constexpr bool kBiasedWeights = false;
#else
constexpr bool kBiasedWeights = true;
#endif

// clang-format off
#if defined(__AVX512F__)

struct Words { __m512i v; };
struct Sums { __m512i v; };
inline Sums set_sums(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Vf to_float(Sums a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline Words load_words(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_words(uint8_t* p, Words a) { _mm512_storeu_si512(p, a.v); }
inline Words low_halves(Words a) { return {_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
inline Words high_halves(Words a) { return {_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))}; }
inline Words multiply_add_16(Words a, Words b, Words c) { return {_mm512_add_epi16(_mm512_mullo_epi16(a.v, b.v), c.v)}; }
inline Words load_pairs_16(const uint16_t* p) {  // kLanes values, each twice
  const __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return {_mm512_or_si512(v, _mm512_slli_epi32(v, 16))};
}
inline Words shift_right_16(Words a, int n) { return {_mm512_srli_epi16(a.v, static_cast<unsigned>(n))}; }
inline Words set_16(int x) { return {_mm512_set1_epi16(static_cast<int16_t>(x))}; }
inline Sums low_bits(Words a, int bits) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(bits))}; }
inline Sums add_product_16(Sums a, Sums b, Sums c) { return {_mm512_add_epi32(a.v, _mm512_madd_epi16(b.v, c.v))}; }
inline Words and_words(Words a, Words b) { return {_mm512_and_si512(a.v, b.v)}; }
// Integers of kLanes floats within -128 .. 127.
inline void store_int8(int8_t* p, Vf a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v))); }
inline int32_t word_of(const int8_t* p) { int32_t w; __builtin_memcpy(&w, p, 4); return w; }

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

#elif defined(__AVX2__)

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
inline int32_t word_of(const int8_t* p) { int32_t w; __builtin_memcpy(&w, p, 4); return w; }

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

#elif defined(__ARM_NEON)

struct Words { uint8x16_t v; };
struct Sums { int32x4_t v; };
inline Sums set_sums(int32_t x) { return {vdupq_n_s32(x)}; }
inline Vf to_float(Sums a) { return {vcvtq_f32_s32(a.v)}; }
inline Words load_words(const uint8_t* p) { return {vld1q_u8(p)}; }
inline void store_words(uint8_t* p, Words a) { vst1q_u8(p, a.v); }
inline Words low_halves(Words a) { return {vandq_u8(a.v, vdupq_n_u8(15))}; }
inline Words high_halves(Words a) { return {vshrq_n_u8(a.v, 4)}; }
inline Words multiply_add_16(Words a, Words b, Words c) {
  return {vreinterpretq_u8_u16(vmlaq_u16(vreinterpretq_u16_u8(c.v), vreinterpretq_u16_u8(a.v), vreinterpretq_u16_u8(b.v)))};
}
inline Words load_pairs_16(const uint16_t* p) {
  const uint32x4_t v = vmovl_u16(vld1_u16(p));
  return {vreinterpretq_u8_u32(vorrq_u32(v, vshlq_n_u32(v, 16)))};
}
inline Words shift_right_16(Words a, int n) { return {vreinterpretq_u8_u16(vshlq_u16(vreinterpretq_u16_u8(a.v), vdupq_n_s16(static_cast<int16_t>(-n))))}; }
inline Words set_16(int x) { return {vreinterpretq_u8_u16(vdupq_n_u16(static_cast<uint16_t>(x)))}; }
inline Sums low_bits(Words a, int bits) { return {vandq_s32(vreinterpretq_s32_u8(a.v), vdupq_n_s32(bits))}; }
inline Sums add_product_16(Sums a, Sums b, Sums c) { return {vmlaq_s32(a.v, b.v, vshrq_n_s32(vshlq_n_s32(c.v, 16), 16))}; }
inline Words and_words(Words a, Words b) { return {vandq_u8(a.v, b.v)}; }
inline void store_int8(int8_t* p, Vf a) {
  const int16x4_t halves = vmovn_s32(vcvtnq_s32_f32(a.v));
  const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
  const int32_t word = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  __builtin_memcpy(p, &word, 4);
}
inline int32_t word_of(const int8_t* p) { int32_t w; __builtin_memcpy(&w, p, 4); return w; }

#if defined(__ARM_FEATURE_DOTPROD)
struct Weights { int8x16_t v; };
struct Inputs { int8x16_t v; };
inline Weights prepare(Words a) { return {vreinterpretq_s8_u8(veorq_u8(a.v, vdupq_n_u8(128)))}; }
inline Inputs broadcast(const int8_t* p) { return {vreinterpretq_s8_s32(vdupq_n_s32(word_of(p)))}; }
inline Sums dot(Sums a, Weights w, Inputs x) { return {vdotq_s32(a.v, w.v, x.v)}; }
#else
struct Weights { int8x16_t v; };
struct Inputs { int8x8_t v; };
inline Weights prepare(Words a) { return {vreinterpretq_s8_u8(veorq_u8(a.v, vdupq_n_u8(128)))}; }
inline Inputs broadcast(const int8_t* p) { return {vreinterpret_s8_s32(vdup_n_s32(word_of(p)))}; }
inline Sums dot(Sums a, Weights w, Inputs x) {  // two products fit 16 bits: 2 * 128 * 127 < 32768
  const int16x8_t low = vmull_s8(vget_low_s8(w.v), x.v), high = vmull_s8(vget_high_s8(w.v), x.v);
  return {vpadalq_s16(a.v, vpaddq_s16(low, high))};
}
#endif

#else  // scalar

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
inline int32_t word_of(const int8_t* p) { int32_t w; __builtin_memcpy(&w, p, 4); return w; }

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

#endif

// Weights that are small and not biased: the halves of int4's bytes.
#if defined(__ARM_NEON)
inline Weights prepare_halves(Words a) { return {vreinterpretq_s8_u8(a.v)}; }
#else
inline Weights prepare_halves(Words a) { return prepare(a); }
#endif
// clang-format on

// A product and a sum rounded once, on every set: the scalar set's own fma rounds twice.
inline Vf exact_fma(Vf a, Vf b, Vf c) {
#if defined(__AVX2__) || defined(__ARM_NEON)
  return fma(a, b, c);
#else
  MOEPP_UNROLL for (int i = 0; i < kLanes; i++) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
#endif
}

// Makes int8 words of the halves of int4's, two bytes at a time: (half - zero) * multiplier + 128 =
// half * multiplier + offset. No product or sum exceeds a byte.
struct Int4Scales {
  Words flags, multipliers;  // panels.h, each in both halves of its lane
};
struct Int4Scale {
  Words multiplier, offset;
};
inline Int4Scales load_int4_scales(const uint16_t* scales) {
  return {load_pairs_16(scales), load_pairs_16(scales + kPanelRows)};
}
inline Int4Scale int4_scale(Int4Scales scales, int group) {
  const Words multiplier = and_words(shift_right_16(scales.multipliers, 4 * group), set_16(15));
  const Words flag = and_words(shift_right_16(scales.flags, group), set_16(1));
  // 257 puts a value in both bytes: offset = 128 + (flag - 8) * multiplier.
  const Words zero = multiply_add_16(flag, set_16(257), set_16(-8 * 257));
  return {multiplier, multiply_add_16(multiplier, zero, set_16(128 * 257))};
}
inline Words int4_words(Words halves, Int4Scale scale) {
  return multiply_add_16(halves, scale.multiplier, scale.offset);
}

// The same of the sums of a group of 32 k: multiplier * (sum of half * x - zero * (sum of x)). The
// value in the parentheses is at most 32 * 8 * 127: 16 bits with the sign.
struct Int4GroupScale {
  Sums multiplier, minus_zero;  // in the lower halves, and the upper are 0
};
inline Int4GroupScale int4_group_scale(Int4Scales scales, int group) {
  const Words multipliers = shift_right_16(scales.multipliers, 4 * group),
              flags = shift_right_16(scales.flags, group);
  return {low_bits(multipliers, 15),
          add_product_16(set_sums(0xfff8), low_bits(flags, 1), set_sums(1))};  // -8, or -7
}
inline Sums int4_sums(Sums total, Int4GroupScale scale, Sums halves, Sums inputs) {
  return add_product_16(total, add_product_16(halves, inputs, scale.minus_zero), scale.multiplier);
}
