// Rows of activations as int8, for the quantised GEMM: quantised while an op runs, once per row.
//
// A row is cut into the blocks of 128 k of the weights (quantise.h), the last padded with zeros.
// For each block
//   scale = max |x| / 127, q = x * (127 / max |x|) to nearest, ties to even: within -127 .. 127
// in f32. A block below 2^-100 throughout becomes zeros with scale 0. A block that holds a NaN or
// an infinity becomes zeros with scale NaN. So all of that row's outputs are NaN, and no other
// row's.
//
// In memory: int8 q[blocks][128]; float scale[blocks]; int32 correction[blocks] = -128 * sum of the
// block's q; int32 group_sum[blocks][4] of 32 q each; padded to a multiple of 64 bytes. So rows of
// 4096 k are no multiple of 4096 bytes apart, which would put them all into the same sets of the
// first-level cache.

struct QuantisedRow {
  int8_t* q;
  float* scale;
  int32_t* correction;
  int32_t* group_sum;
};

inline int64_t quantised_row_bytes(int64_t k) {
  return (quant_blocks(k) * (kQuantBlock + 8 + 4 * kInt4Groups) + 63) / 64 * 64;
}

inline QuantisedRow quantised_row(char* rows, int64_t r, int64_t k) {
  char* row = rows + r * quantised_row_bytes(k);
  const int64_t blocks = quant_blocks(k);
  return {reinterpret_cast<int8_t*>(row), reinterpret_cast<float*>(row + blocks * kQuantBlock),
          reinterpret_cast<int32_t*>(row + blocks * (kQuantBlock + 4)),
          reinterpret_cast<int32_t*>(row + blocks * (kQuantBlock + 8))};
}

inline void quantise_block(const float* x, int64_t n, int8_t* q, float* scale, int32_t* correction,
                           int32_t* group_sum) {
  constexpr int kVectors = kQuantBlock / kLanes;
  const Vf zero = set1(0.0f);
  float padded[kQuantBlock];
  if (n < kQuantBlock) {
    for (int64_t i = 0; i < kQuantBlock; i++) padded[i] = i < n ? x[i] : 0.0f;
    x = padded;
  }
  Vf high = zero, poison = zero;
  for (int i = 0; i < kVectors; i++) {
    const Vf v = load(x + i * kLanes);
    high = max(high, max(v, zero - v));
    poison = poison + (v - v);  // 0, or NaN
  }
  const float most = highest(high), broken = sum(poison);
  const bool usable = broken == 0.0f && most >= kSmallestQuantised;
  *scale = usable ? most / 127.0f : broken;
  const Vf inverse = set1(usable ? 127.0f / most : 0.0f);
  int32_t all = 0;
  for (int group = 0; group < kInt4Groups; group++) {
    Vf total = zero;  // of integers: exact in any order
    for (int i = group * kVectors / kInt4Groups; i < (group + 1) * kVectors / kInt4Groups; i++) {
      const Vf rounded = usable ? round(load(x + i * kLanes) * inverse) : zero;
      store_int8(q + i * kLanes, rounded);
      total = total + rounded;
    }
    group_sum[group] = static_cast<int32_t>(sum(total));
    all += group_sum[group];
  }
  *correction = -128 * all;
}

inline void quantise_row(const float* x, int64_t k, QuantisedRow row) {
  for (int64_t b = 0; b < quant_blocks(k); b++) {
    const int64_t first = b * kQuantBlock, n = k - first < kQuantBlock ? k - first : kQuantBlock;
    quantise_block(x + first, n, row.q + first, row.scale + b, row.correction + b,
                   row.group_sum + b * kInt4Groups);
  }
}
