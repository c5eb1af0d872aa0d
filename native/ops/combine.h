#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// moe_output[t] = coefficients[t][0] * x[t] + sum_c coefficients[t][1 + c] * constants[c]
//                 + sum over FFN picks k, ascending, of expert_weights[t][k] *
//                 expert_out[expert_rows[t][k]];
// sum = residual + moe_output, or (residual + delta) + moe_output; out = RMSNorm(sum; norm_weight).
// A coefficient of 0 adds nothing (not 0 * infinity).
struct CombineArgs {
  const Tensor* residual;        // [T, H] f32
  const Tensor* delta;           // [T, H] f32 or null
  const Tensor* x;               // [T, H] f32, the layer's normalised input
  const Tensor* expert_out;      // [T, K, H] f32, rows sorted by expert
  const Tensor* coefficients;    // [T, C+1] f32
  const Tensor* expert_weights;  // [T, K] f32
  const Tensor* expert_rows;     // [T, K] i32
  const Tensor* constants;       // [C, H] f32; null exactly when C = 0
  const Tensor* norm_weight;     // [H] f32 or null
  Tensor* moe_output;            // [T, H] f32 or null
  Tensor* sum;                   // [T, H] f32; null, with a norm, when nothing reads it
  Tensor* out;                   // [T, H] f32 | bf16; null exactly when norm_weight is
  float eps = 0.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("residual", residual, "T H", DType::kF32);
    v.optional_in("delta", delta, "T H", DType::kF32);
    v.in("x", x, "T H", DType::kF32);
    v.in("expert_out", expert_out, "T K H", DType::kF32);
    v.in("coefficients", coefficients, "T _", DType::kF32);
    v.in("expert_weights", expert_weights, "T K", DType::kF32);
    v.in("expert_rows", expert_rows, "T K", DType::kI32);
    v.optional_weight("constants", constants, "C H", Layout::kRows);
    v.optional_weight("norm_weight", norm_weight, "H", Layout::kRows);
    v.optional_out("moe_output", moe_output, "T H", DType::kF32);
    if (norm_weight) {
      v.optional_out("sum", sum, "T H", DType::kF32);
      v.out("out", out, "T H", kF32OrBf16);
      v.attribute("eps", eps);
    } else {
      v.out("sum", sum, "T H", DType::kF32);
    }
  }
};

inline std::string broken_relation(const CombineArgs& a) {
  const int64_t constants = a.constants != nullptr ? a.constants->shape[0] : 0;
  if (a.constants != nullptr && constants < 1) return "constants must not be empty";
  return a.coefficients->shape[1] == constants + 1
             ? ""
             : "coefficients must be [T, C+1] for constants [C, H]";
}

inline std::string step_fault(const CombineArgs& a, StepInputs& inputs) {
  if (!inputs.has(a.expert_rows)) return {};
  const int64_t picks = a.expert_rows->elements();
  for (int64_t i = 0; i < picks; i++) {
    const int32_t row = a.expert_rows->i32()[i];
    if (row < -1 || row >= picks)
      return "expert_rows[" + std::to_string(i) + "] is " + std::to_string(row) +
             ", expected -1 to " + std::to_string(picks - 1);
  }
  return {};
}

}  // namespace moepp
