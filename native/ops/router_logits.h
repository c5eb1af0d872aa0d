#pragma once

#include "common.h"

namespace moepp {

// The logits of a layer's router:
//
//   for (t = 0; t < T; t++) {
//     z = hidden ? hidden[t] : x[t];
//     for (e = 0; e < E; e++)
//       logits[t][e] = dot(router[e], z) + dot(residual_map[e], previous_logits[t]);
//     for (i = 0; i < X; i++) constant_scores[t][i] = dot(constant_router[i], x[t]);
//   }
//
// hidden is that of a two-layer router. Without previous_logits nothing is added.
// constant_scores[t][2c], [2c + 1] are the input of constant expert c's own softmax. f32. Source:
// paper, gating residuals; MoE++ reference model, Router and ConstantExpert.
struct RouterLogitsArgs {
  const Tensor* x;                // [T, H] f32, normalised
  const Tensor* hidden;           // [T, G] f32 or null
  const Tensor* previous_logits;  // [T, E] f32 or null (first layer)
  const Tensor* router;           // [E, G] f32, G = H without hidden
  const Tensor* residual_map;     // [E, E] f32; null exactly when previous_logits is
  const Tensor* constant_router;  // [X, H] f32, X = 2C; null without constant experts
  Tensor* logits;                 // [T, E] f32
  Tensor* constant_scores;        // [T, X] f32; null exactly when constant_router is

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.optional_in("hidden", hidden, "T G", DType::kF32);
    v.weight("router", router, hidden ? "E G" : "E H", Layout::kRows);
    v.optional_in("previous_logits", previous_logits, "T E", DType::kF32);
    if (previous_logits) v.weight("residual_map", residual_map, "E E", Layout::kRows);
    v.out("logits", logits, "T E", DType::kF32);
    v.optional_weight("constant_router", constant_router, "X H", Layout::kRows);
    if (constant_router) v.out("constant_scores", constant_scores, "T X", DType::kF32);
  }
};

inline std::string broken_relation(const RouterLogitsArgs& a) {
  return a.constant_router == nullptr ||
                 (a.constant_router->shape[0] > 0 && a.constant_router->shape[0] % 2 == 0)
             ? ""
             : "constant_router must have two rows for each constant expert";
}

}  // namespace moepp
