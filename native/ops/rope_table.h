#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// cosine[t][j], sine[t][j] of the f32 angle (position[t] / position_divisor) * frequencies[b][j],
// for the sequence b of t, times magnitude; a magnitude of 1 changes no bit. Sources: MoE++
// reference model, rotary embeddings; "linear" scaling sets the divisor, "ntk" and "dynamic" the
// frequencies; YaRN, arXiv 2309.00071, whose attention factor is the magnitude.
struct RopeTableArgs {
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32: sequence b has the tokens sequence_starts[b] ..
                                  // sequence_starts[b+1]-1
  const Tensor* frequencies;      // [B, J] f32, J pairs of dimensions
  Tensor* cosine;                 // [T, J] f32
  Tensor* sine;                   // [T, J] f32
  float position_divisor;
  float magnitude = 1.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("positions", positions, "T", DType::kI32);
    v.in("sequence_starts", sequence_starts, "_", DType::kI32);
    v.in("frequencies", frequencies, "B J", DType::kF32);
    v.out("cosine", cosine, "T J", DType::kF32);
    v.out("sine", sine, "T J", DType::kF32);
    v.attribute("position_divisor", position_divisor);
    v.attribute("magnitude", magnitude);
  }
};

inline std::string broken_relation(const RopeTableArgs& a) {
  return a.position_divisor > 0 ? "" : "position_divisor must be positive";
}

inline std::string step_fault(const RopeTableArgs& a, StepInputs& inputs) {
  if (a.sequence_starts->shape[0] != a.frequencies->shape[0] + 1)
    return "frequencies must have one row for each sequence";
  return inputs.bad_starts(a.sequence_starts, a.positions->shape[0]);
}

}  // namespace moepp
