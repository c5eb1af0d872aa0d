#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// The rows of each expert times its weight:
//
//   for (n = 0; n < N; n++)
//     for (r = expert_offsets[n]; r < expert_offsets[n + 1]; r++) {
//       row = token_order ? token_order[r] / K : r;
//       for (o = 0; o < O; o++) {
//         for (sum = 0, i = 0; i < I; i++) sum += weight[n][o][i] * x[row][i];
//         g[o] = input_scale * sum;
//       }
//       for (f = 0; f < F; f++) out[r][f] = swiglu ? silu(g[f]) * g[F + f] : g[f];
//     }
//
// F = O, or O / 2 with swiglu: g is F gate columns, then F up columns. Sums and rounding are those
// of linear, which is one group. Rows from expert_offsets[N] on are neither read nor written.
struct GroupedGemmArgs {
  const Tensor* x;               // [T, I] f32 | bf16 with token_order; [T, K, I] without
  const Tensor* expert_offsets;  // [N+1] i32
  const Tensor* token_order;     // [T, K] i32 or null
  const Tensor* weight;          // [N, O, I] f32 | bf16 | int8 | int4 | f8; kMatrix, or kGateUp of
                                 // [N, 2F, I] with swiglu
  Tensor* out;                   // [T, K, O] f32 | bf16, or [T, K, F]
  float input_scale;
  Activation activation;  // none | swiglu
  bool may_round_x = false;

  template <class Visitor>
  void visit(Visitor& v) {
    v.attribute("input_scale", input_scale);
    v.attribute("activation", activation);
    v.may_round(may_round_x);
    const bool swiglu = activation == Activation::kSwiglu;
    v.optional_in("token_order", token_order, "T K", DType::kI32);
    v.in("x", x, token_order ? "T I" : "T K I", kF32OrBf16);
    v.in("expert_offsets", expert_offsets, "_", DType::kI32);
    v.weight("weight", weight, swiglu ? "N 2F I" : "N F I",
             swiglu ? Layout::kGateUp : Layout::kMatrix);
    v.out("out", out, "T K F", kF32OrBf16);
  }
};

inline std::string broken_relation(const GroupedGemmArgs& a) {
  if (a.activation != Activation::kNone && a.activation != Activation::kSwiglu)
    return "activation must be none or swiglu";
  if (a.expert_offsets->rank != 1 || a.expert_offsets->shape[0] != a.weight->shape[0] + 1)
    return "expert_offsets must be [N+1] for weight [N, ...]";
  return {};
}

inline std::string step_fault(const GroupedGemmArgs& a, StepInputs& inputs) {
  const int64_t picks = a.out->shape[0] * a.out->shape[1];
  if (inputs.has(a.expert_offsets)) {
    const int32_t* offsets = a.expert_offsets->i32();
    const int64_t experts = a.weight->shape[0];
    if (offsets[0] != 0 || offsets[experts] > picks)
      return "expert_offsets must go from 0 to at most " + std::to_string(picks);
    for (int64_t n = 0; n < experts; n++) {
      if (offsets[n + 1] < offsets[n]) return "expert_offsets must not descend";
    }
  }
  return a.token_order == nullptr ? std::string()
                                  : inputs.out_of_range("token_order", a.token_order, picks);
}

}  // namespace moepp
