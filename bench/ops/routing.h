// The arrays of a router and of top-k gating, for a step of t tokens.
#pragma once

#include "bench.h"

namespace moepp::bench {

// The arrays that route_top_k reads and writes.
struct RouteArrays {
  RouteArrays(Run& run, const RouterShape& s, int64_t t)
      : shape(s),
        logits(run, {t, s.experts()}, 1),
        scores(run, {t, 2 * s.constants}, 2),
        weights(run, {t, s.top_k}),
        coefficients(run, {t, s.constants + 1}),
        bias(run, {s.experts()}, 8, 0.01f),
        indices(run, {t, s.top_k}),
        offsets(run, {s.ffn + 1}),
        order(run, {t, s.top_k}),
        rows(run, {t, s.top_k}) {}

  RouteTopKArgs args() {
    RouteTopKArgs a = {};
    a.logits = &logits.tensor, a.constant_scores = shape.constants > 0 ? &scores.tensor : nullptr;
    a.selection_bias = shape.biased ? &bias.tensor : nullptr;
    a.expert_indices = &indices.tensor, a.expert_weights = &weights.tensor;
    a.coefficients = &coefficients.tensor, a.expert_offsets = &offsets.tensor;
    a.token_order = &order.tensor, a.expert_rows = &rows.tensor;
    a.experts = shape.runs();
    a.normalise = shape.normalise, a.drop_zero = shape.drop_zero;
    a.norm_std = shape.norm_std, a.weight_scale = shape.weight_scale;
    return a;
  }

  const RouterShape shape;
  Floats logits, scores, weights, coefficients, bias;
  Ints indices, offsets, order, rows;
};

// The weights of a router, `copies` of them. The residual map and the constant experts' rows are
// there where the layer has constant experts.
struct RouterWeights {
  RouterWeights(Run& run, const RouterShape& s)
      : shape(s),
        router(run, {s.copies * s.experts(), s.hidden}, 2),
        map(run, {s.constants > 0 ? s.experts() : 0, s.experts()}, 3),
        constant(run, {s.copies * 2 * s.constants, s.hidden}, 4),
        router_tensor(test::tensor(router.device(), DType::kF32, {s.experts(), s.hidden})),
        constant_tensor(test::tensor(constant.device(), DType::kF32, {2 * s.constants, s.hidden})) {
  }

  RouterLogitsArgs args(const Tensor& x, const Tensor& previous, RouteArrays& to) {
    RouterLogitsArgs a = {};
    a.x = &x, a.router = &router_tensor, a.logits = &to.logits.tensor;
    if (shape.constants == 0) return a;
    a.previous_logits = &previous, a.residual_map = &map.tensor;
    a.constant_router = &constant_tensor, a.constant_scores = &to.scores.tensor;
    return a;
  }
  void use_copy(int64_t i) {
    router_tensor.data = router.device() + i % shape.copies * shape.experts() * shape.hidden;
    constant_tensor.data =
        constant.device() + i % shape.copies * 2 * shape.constants * shape.hidden;
  }

  int64_t rows() const { return shape.experts() + 2 * shape.constants; }
  double products() const {
    const int64_t e = shape.experts();
    return static_cast<double>(rows() * shape.hidden + (shape.constants > 0 ? e * e : 0));
  }
  std::string name() const {
    return std::to_string(shape.hidden) + " -> " + std::to_string(shape.experts()) + " + " +
           std::to_string(2 * shape.constants);
  }

  const RouterShape shape;
  Floats router, map, constant;
  Tensor router_tensor, constant_tensor;
};

}  // namespace moepp::bench
