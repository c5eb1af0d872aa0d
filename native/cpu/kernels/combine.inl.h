#include "rms_norm.inl.h"

// The inputs of one token's sum.
struct CombineToken {
  const float* x;             // [H]
  const float* coefficients;  // [C+1]
  const float* constants;     // [C, H]
  const float* weights;       // [K]
  const int32_t* rows;        // [K]
  const float* expert_out;    // [T * K, H]
  int64_t h, c, k;
};

// V whole vectors of moe_output from column i; with V = 0, the first n lanes of one.
template <int V>
void combine_vectors(const CombineToken& token, int64_t i, int n, Vf* m) {
  constexpr int kCount = V == 0 ? 1 : V;
  const auto add = [&](float weight, const float* term) {
    MOEPP_UNROLL
    for (int v = 0; v < kCount; v++) {
      m[v] = fma(set1(weight), V == 0 ? load_n(term + i, n) : load(term + i + v * kLanes), m[v]);
    }
  };
  MOEPP_UNROLL
  for (int v = 0; v < kCount; v++) m[v] = set1(0.0f);
  if (token.coefficients[0] != 0.0f) add(token.coefficients[0], token.x);
  for (int64_t c = 0; c < token.c; c++) {
    if (token.coefficients[1 + c] != 0.0f)
      add(token.coefficients[1 + c], token.constants + c * token.h);
  }
  for (int64_t k = 0; k < token.k; k++) {
    if (token.rows[k] >= 0) add(token.weights[k], token.expert_out + token.rows[k] * token.h);
  }
}

template <bool Added>
void combine_token(const CombineArgs& args, int64_t t) {
  constexpr int kVectors = 4;
  const int64_t h = args.x->shape[1], c = args.coefficients->shape[1] - 1,
                k = args.expert_rows->shape[1];
  const CombineToken token = {args.x->f32() + t * h,
                              args.coefficients->f32() + t * (c + 1),
                              c > 0 ? args.constants->f32() : nullptr,
                              args.expert_weights->f32() + t * k,
                              args.expert_rows->i32() + t * k,
                              args.expert_out->f32(),
                              h,
                              c,
                              k};
  const float* residual = args.residual->f32() + t * h;
  const float* delta = Added ? args.delta->f32() + t * h : nullptr;
  float* out = args.out != nullptr ? args.out->f32() + t * h : nullptr;
  float* moe = args.moe_output != nullptr ? args.moe_output->f32() + t * h : nullptr;
  // without a norm there is a sum
  float* row = args.sum != nullptr ? args.sum->f32() + t * h : out;
  SumOfSquares squares;
  Vf m[kVectors];
  int64_t i = 0;
  for (; i + kVectors * kLanes <= h; i += kVectors * kLanes) {
    combine_vectors<kVectors>(token, i, kLanes, m);
    MOEPP_UNROLL
    for (int v = 0; v < kVectors; v++) {
      if (moe != nullptr) store(moe + i + v * kLanes, m[v]);
      Vf before = load(residual + i + v * kLanes);
      if (Added) before = before + load(delta + i + v * kLanes);
      m[v] = before + m[v];
      store(row + i + v * kLanes, m[v]);
    }
    MOEPP_UNROLL
    for (int v = 0; v < kVectors; v += 2) squares.add(m[v], m[v + 1]);
  }
  for (; i < h; i += kLanes) {
    const int n = h - i < kLanes ? static_cast<int>(h - i) : kLanes;
    combine_vectors<0>(token, i, n, m);
    if (moe != nullptr) store_n(moe + i, m[0], n);
    Vf a = load_n(residual + i, n);
    if (Added) a = a + load_n(delta + i, n);
    a = a + m[0];
    store_n(row + i, a, n);
    squares.add(a);
  }
  if (out != nullptr)
    scale_row(row, squares.inverse_rms(h, args.eps), args.norm_weight->f32(), out, h);
}

inline void combine(const CombineArgs& args, Queue& queue) {
  const int64_t h = args.x->shape[1];
  for_row_blocks(queue, args.x->shape[0], 24 * h, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++)
      args.delta != nullptr ? combine_token<true>(args, t) : combine_token<false>(args, t);
  });
}
