#pragma once

// Attention's products with a cache's elements. A step takes kStep neighbouring dimensions of keys,
// or kStep neighbouring keys' values. In memory a step's elements lie side by side (kv_layout.h).
// Of a step, a row may see one key alone: only(part, which) leaves 0 of the others. Within a step,
// part p takes element p of each kStep; a step has kParts parts. Operands multiply
// keys and values: they are the queries, then the keys' weights.

struct F32Cache {
  using Element = float;
  using Operand = float;
  static constexpr int kStep = 1, kParts = 1;

  static Vf part(const float* from, int) { return load(from); }
  static Vf part_n(const float* from, int, int n) { return load_n(from, n); }
  static Vf only(Vf part, int) { return part; }
  static Vf operand(const float* row, int64_t step, int) { return set1(row[step]); }
  static Vf multiply_add(Vf operand, Vf elements, Vf sum) { return fma(operand, elements, sum); }
  static float to_operand(float x) { return x; }
  // Replaces the scores s .. s + 2 kLanes by their weights, as operands, from the row's start on.
  // Of the two vectors the first n lanes count, and the others are 0. Returns total + their sum.
  static Vf store_weights(float* row, int64_t s, Vf first, Vf second, int n, Vf total) {
    store_n(row + s, first, n < kLanes ? n : kLanes);
    store_n(row + s + kLanes, second, n < kLanes ? 0 : n - kLanes);
    return total + first + second;
  }
};

// bf16 elements, exact f32 products.
struct Bf16Cache : F32Cache {
  using Element = uint16_t;
  static constexpr int kStep = 2, kParts = 2;

  static Vf part(const uint16_t* from, int p) {
    Vf even, odd;
    load_bf16_pairs(from, &even, &odd);
    return p == 0 ? even : odd;
  }
  static Vf part_n(const uint16_t* from, int p, int n) {
    uint16_t pairs[2 * kLanes] = {};
    for (int i = 0; i < 2 * n; i++) pairs[i] = from[i];
    return part(pairs, p);
  }
  static Vf operand(const float* row, int64_t step, int p) { return set1(row[2 * step + p]); }
};

#if defined(MOEPP_HAS_PAIRS)
// bf16 elements and bf16 operands.
struct Bf16PairCache {
  using Element = uint16_t;
  using Operand = uint16_t;
  static constexpr int kStep = 2, kParts = 1;

  static Vf part(const uint16_t* from, int) { return load(reinterpret_cast<const float*>(from)); }
  static Vf part_n(const uint16_t* from, int, int n) {
    return load_n(reinterpret_cast<const float*>(from), n);
  }
  static Vf only(Vf part, int which) { return member(part, which); }
  static Vf operand(const uint16_t* row, int64_t step, int) { return set1_pair(row + 2 * step); }
  static Vf multiply_add(Vf operand, Vf elements, Vf sum) {
    return add_pair_products(operand, elements, sum);
  }
  static uint16_t to_operand(float x) { return f32_to_bf16(x); }
  // An operand is half as long as a score, so none is overwritten that is still to come.
  static Vf store_weights(uint16_t* row, int64_t s, Vf first, Vf second, int, Vf total) {
    constexpr uint16_t kOnes[] = {0x3f80, 0x3f80};
    const Vf rounded = rounded_pairs(first, second);
    store(reinterpret_cast<float*>(row + s), rounded);
    return multiply_add(set1_pair(kOnes), rounded, total);
  }
};
#endif
