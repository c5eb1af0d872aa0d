#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// out[t] = table[tokens[t]]; with delta, scale * (table[tokens[t]] + delta[t]).
struct EmbeddingArgs {
  const Tensor* tokens;  // [T] i32, each in [0, V)
  const Tensor* table;   // [V, H] f32 | bf16; rows; or, when the output head shares it, kMatrix:
                         // then int8 and int4, too
  const Tensor* delta;   // [T, H] f32, or null
  Tensor* out;           // [T, H] f32
  float scale;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("tokens", tokens, "T", DType::kI32);
    v.table("table", table, "V H");
    v.optional_in("delta", delta, "T H", DType::kF32);
    v.out("out", out, "T H", DType::kF32);
    v.attribute("scale", scale);
  }
};

inline std::string step_fault(const EmbeddingArgs& a, StepInputs& inputs) {
  return inputs.out_of_range("tokens", a.tokens, a.table->shape[0]);
}

}  // namespace moepp
