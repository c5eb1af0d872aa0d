// NEON, with dot products where the set has them. simd.h and simd_int8.h say what each function
// does.

// One line per function.
// clang-format off

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
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
inline Vf set1_pair(const void* pair) {
  uint32_t bits;
  __builtin_memcpy(&bits, pair, 4);
  return {vreinterpretq_f32_u32(vdupq_n_u32(bits))};
}
inline bfloat16x8_t pairs_of(Vf a) { return vreinterpretq_bf16_f32(a.v); }
// The products' sum is added. Both sums are rounded to odd (Arm's manual, BFDOT); anything below 2^-126 counts as zero.
inline Vf add_pair_products(Vf a, Vf b, Vf sum) { return {vbfdotq_f32(sum.v, pairs_of(a), pairs_of(b))}; }
inline Vf member(Vf pairs, int which) {
  const uint32x4_t mask = vdupq_n_u32(which == 0 ? 0xffffu : 0xffff0000u);
  return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(pairs.v), mask))};
}
inline Vf rounded_pairs(Vf first, Vf second) {
  return {vreinterpretq_f32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(first.v), second.v))};
}
#endif
inline void keep_in_register(Vf& a) { __asm__ volatile("" : "+w"(a.v)); }
inline Vf exact_fma(Vf a, Vf b, Vf c) { return fma(a, b, c); }

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

#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr bool kBiasedWeights = true;
struct Weights { uint8x16_t v; };
struct Inputs { int8x16_t v; };
inline Weights prepare(Words a) { return {a.v}; }
inline Weights prepare_halves(Words a) { return {a.v}; }
inline Inputs broadcast(const int8_t* p) { return {vreinterpretq_s8_s32(vdupq_n_s32(word_of(p)))}; }
inline Sums dot(Sums a, Weights w, Inputs x) { return {vusdotq_s32(a.v, w.v, x.v)}; }
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr bool kBiasedWeights = false;
struct Weights { int8x16_t v; };
struct Inputs { int8x16_t v; };
inline Weights prepare(Words a) { return {vreinterpretq_s8_u8(veorq_u8(a.v, vdupq_n_u8(128)))}; }
inline Inputs broadcast(const int8_t* p) { return {vreinterpretq_s8_s32(vdupq_n_s32(word_of(p)))}; }
inline Sums dot(Sums a, Weights w, Inputs x) { return {vdotq_s32(a.v, w.v, x.v)}; }
#else
constexpr bool kBiasedWeights = false;
struct Weights { int8x16_t v; };
struct Inputs { int8x8_t v; };
inline Weights prepare(Words a) { return {vreinterpretq_s8_u8(veorq_u8(a.v, vdupq_n_u8(128)))}; }
inline Inputs broadcast(const int8_t* p) { return {vreinterpret_s8_s32(vdup_n_s32(word_of(p)))}; }
inline Sums dot(Sums a, Weights w, Inputs x) {  // two products fit 16 bits: 2 * 128 * 127 < 32768
  const int16x8_t low = vmull_s8(vget_low_s8(w.v), x.v), high = vmull_s8(vget_high_s8(w.v), x.v);
  return {vpadalq_s16(a.v, vpaddq_s16(low, high))};
}
#endif
#if !defined(__ARM_FEATURE_MATMUL_INT8)
inline Weights prepare_halves(Words a) { return {vreinterpretq_s8_u8(a.v)}; }
#endif
