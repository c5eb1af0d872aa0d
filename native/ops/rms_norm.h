#pragma once

#include "common.h"

namespace moepp {

// sum[t] = x[t] + delta[t] (x alone without delta); out[t] = sum[t] / sqrt(mean(sum[t]^2) + eps) *
// weight. f32 throughout. Source: MoE++ reference model, RMSNorm and the residual additions.
struct RmsNormArgs {
  const Tensor* x;       // [T, H] f32
  const Tensor* delta;   // [T, H] f32 or null
  const Tensor* weight;  // [H] f32
  Tensor* sum;           // [T, H] f32; null when delta is null, or when nothing reads it
  Tensor* out;           // [T, H] f32 | bf16
  float eps;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.optional_in("delta", delta, "T H", DType::kF32);
    v.weight("weight", weight, "H", Layout::kRows);
    v.optional_out("sum", sum, "T H", DType::kF32);
    v.out("out", out, "T H", kF32OrBf16);
    v.attribute("eps", eps);
  }
};

inline std::string broken_relation(const RmsNormArgs& a) {
  return a.sum != nullptr && a.delta == nullptr ? "sum needs delta" : "";
}

}  // namespace moepp
