// The arrays of a layer's router and of its top-k gating, which three ops share.
#pragma once

#include <utility>

#include "arrays.h"
#include "bench.h"

namespace moepp::test {

// The attributes of a gating.
inline RouteTopKArgs gating(Scores scores, bool normalise, bool drop_zero, bool masked,
                            float norm_std = 0.0f, float input_scale = 1.0f,
                            float weight_scale = 1.0f) {
  RouteTopKArgs args = {};
  args.scores = scores;
  args.normalise = normalise, args.drop_zero = drop_zero, args.masked = masked;
  args.norm_std = norm_std, args.input_scale = input_scale, args.weight_scale = weight_scale;
  return args;
}

// K of the experts for each of T tokens.
struct RouteCase {
  int64_t t;
  ExpertRuns experts;
  int64_t k;
  RouteTopKArgs gating = {};  // attributes alone
  bool biased = false;
  float scale = 1.0f;  // of the logits

  RouteCase(int64_t tokens, std::initializer_list<std::pair<ExpertKind, int64_t>> runs,
            int64_t chosen)
      : t(tokens), k(chosen) {
    for (const auto& [kind, count] : runs) experts.append(kind, static_cast<int32_t>(count));
  }
  RouteCase(const bench::RouterShape& s, int64_t tokens)
      : t(tokens),
        experts(s.runs()),
        k(s.top_k),
        gating(test::gating(Scores::kSoftmax, s.normalise, s.drop_zero, false, s.norm_std, 1.0f,
                            s.weight_scale)),
        biased(s.biased) {}

  int64_t constants() const { return experts.count(ExpertKind::kConstant); }
  int64_t ffn() const { return experts.count(ExpertKind::kFfn); }
};

// The arrays that route_top_k reads and writes.
struct RouteArrays {
  Floats logits, scores, bias, weights, coefficients;
  Ints indices, offsets, order, rows;
  RouteTopKArgs args;

  RouteArrays(Arena& arena, const RouteCase& c)
      : logits(arena, {c.t, c.experts.experts}, 1, c.scale),
        scores(arena, {c.t, 2 * c.constants()}, 2, 3.0f),
        bias(arena, {c.experts.experts}, 8, 0.01f),
        weights(arena, {c.t, c.k}),
        coefficients(arena, {c.t, c.constants() + 1}),
        indices(arena, {c.t, c.k}),
        offsets(arena, {c.ffn() + 1}),
        order(arena, {c.t, c.k}),
        rows(arena, {c.t, c.k}),
        args(c.gating) {
    args.logits = &logits.tensor,
    args.constant_scores = c.constants() > 0 ? &scores.tensor : nullptr;
    args.selection_bias = c.biased ? &bias.tensor : nullptr;
    args.expert_indices = &indices.tensor, args.expert_weights = &weights.tensor;
    args.coefficients = &coefficients.tensor, args.expert_offsets = &offsets.tensor;
    args.token_order = &order.tensor, args.expert_rows = &rows.tensor;
    args.experts = c.experts;
  }
};

// Parts of check_route_top_k. One token's gating, of finite logits; and, whatever the logits,
// different experts for each token, sorted.
std::string check_gating(const RouteTopKArgs& args, int64_t t);
std::string check_sorted_picks(const RouteTopKArgs& args);

// A router of E experts, C of them constant, behind a hidden layer of G, or none where G is 0.
struct RouterSizes {
  int64_t h, g, e, c;
  bool residual;  // it adds the logits of the layer before, through a map
  int64_t copies = 1;

  int64_t rows() const { return e + 2 * c; }
  int64_t width() const { return g > 0 ? g : h; }
};
inline RouterSizes router_of(const bench::RouterShape& s) {
  return {s.hidden, 0, s.experts(), s.constants, s.constants > 0, s.copies};
}

// Its weights, `copies` of them.
struct RouterWeights {
  RouterWeights(Arena& arena, const RouterSizes& sizes)
      : s(sizes),
        router(arena, {s.copies * s.e, s.width()}, 2),
        map(arena, {s.residual ? s.e : 0, s.e}, 3),
        constant(arena, {s.copies * 2 * s.c, s.h}, 4),
        router_tensor(router.rows(0, s.e)),
        constant_tensor(constant.rows(0, 2 * s.c)) {}

  RouterLogitsArgs args(const Tensor* x, const Tensor* hidden, const Tensor* previous,
                        Tensor* logits, Tensor* scores) const {
    RouterLogitsArgs a = {};
    a.x = x, a.router = &router_tensor, a.logits = logits;
    if (s.g > 0) a.hidden = hidden;
    if (s.residual) a.previous_logits = previous, a.residual_map = &map.tensor;
    if (s.c > 0) a.constant_router = &constant_tensor, a.constant_scores = scores;
    return a;
  }
  void use_copy(int64_t i) {
    router_tensor.data = router.device() + i % s.copies * s.e * s.width();
    constant_tensor.data = constant.device() + i % s.copies * 2 * s.c * s.h;
  }

  // Of one copy: "1536 -> 20 + 4"; the operations per token.
  std::string name() const {
    return std::to_string(s.h) + " -> " + std::to_string(s.e) + " + " + std::to_string(2 * s.c);
  }
  double operations() const {
    return static_cast<double>(2 * (s.rows() * s.h + (s.residual ? s.e * s.e : 0)));
  }

  const RouterSizes s;
  Floats router, map, constant;
  Tensor router_tensor, constant_tensor;
};

}  // namespace moepp::test
