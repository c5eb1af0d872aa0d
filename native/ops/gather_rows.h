#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// out[r] = x[rows[r]].
struct GatherRowsArgs {
  const Tensor* x;     // [T, H] f32
  const Tensor* rows;  // [R] i32, each in [0, T)
  Tensor* out;         // [R, H] f32

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.in("rows", rows, "R", DType::kI32);
    v.out("out", out, "R H", DType::kF32);
  }
};

inline std::string step_fault(const GatherRowsArgs& a, StepInputs& inputs) {
  return inputs.out_of_range("rows", a.rows, a.x->shape[0]);
}

}  // namespace moepp
