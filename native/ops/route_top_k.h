#pragma once

#include "common.h"
#include "expert_runs.h"

namespace moepp {

enum class Scores : int32_t { kSoftmax = 0, kSigmoid = 1 };

// Top-K gating over experts of four kinds (expert_runs.h). A pick is a token's k-th expert. In the
// plain case, softmax with `normalise`:
//
//   for (t = 0; t < T; t++) {
//     g = softmax(logits[t]);
//     for (k = 0; k < K; k++) {
//       expert_indices[t][k] = e = argmax(g, except the experts already chosen);
//       expert_weights[t][k] = g[e];
//     }
//     expert_weights[t] /= sum(expert_weights[t]);
//   }
//   for (expert_offsets[0] = r = n = 0; n < N; expert_offsets[++n] = r)
//     for (t = 0; t < T; t++)
//       for (k = 0; k < K; k++)
//         if (expert_indices[t][k] is FFN expert n) {
//           token_order[r] = t * K + k;
//           expert_rows[t][k] = r++;
//         }
//
// In full, with z = logits * (norm_std / unbiased std of the logits), or z = logits when norm_std
// is 0:
//   score   g = softmax(z) over all E, or sigmoid(z). With `masked` a zero-computation expert has
//           g = 0, and the softmax leaves it out; norm_std must be 0 then.
//   choice  c = g + selection_bias. The E experts are `groups` equal runs; a group's score is the
//           sum of its two largest c. Outside the top_groups best groups c becomes 0, which may
//           still be chosen. The K largest c are chosen. Without bias, groups and masks the order
//           of z stands for that of g, whose values round.
//   weight  w = g of the chosen; 0 for a zero expert with drop_zero. Then, with `normalise`, w /=
//           their sum, to which sigmoid adds 1e-20. Then w *= weight_scale.
// Equal choices, and equal groups: the lower index first. A NaN counts as minus infinity there, and
// makes its token's weights NaN, unless masked. A standard deviation of 0 leaves z = logits. If
// the sum of the chosen is 0, softmax gives weights of 0. There is one exception: with drop_zero
// the picks that are neither zero experts nor masked share 1 equally (upstream gives NaN). Indices
// are valid and distinct whatever the logits hold. Zero-computation picks collapse to coefficients:
// with a = softmax(input_scale * scores of constant expert c),
//   coefficients[t] = {cx, c_1 .. c_C}: cx = input_scale * (sum of w_copy + sum_c w_c a_0), c_c =
//   w_c a_1.
// FFN picks are sorted by expert, stable in t: token_order[r] = t * K + k for r in
// [expert_offsets[n], expert_offsets[n+1]), where n counts FFN experts alone. No other pick has a
// row. Source: paper, equations for the router and the zero-computation experts; MoE++ reference
// model, top-k gating; transformers, the routers of models with softmax or sigmoid scores.
struct RouteTopKArgs {
  const Tensor* logits;           // [T, E] f32
  const Tensor* constant_scores;  // [T, X] f32, X = 2C; null exactly when C = 0
  const Tensor* selection_bias;   // [E] f32 or null
  Tensor* expert_indices;         // [T, K] i32, the higher choice first
  Tensor* expert_weights;         // [T, K] f32, as used, zero experts included
  Tensor* coefficients;           // [T, C+1] f32
  Tensor* expert_offsets;         // [N+1] i32
  Tensor* token_order;  // [T, K] i32, flat; entries from expert_offsets[N] on are not written
  Tensor* expert_rows;  // [T, K] i32: the r of a pick, or -1 for a zero-computation pick
  ExpertRuns experts;
  Scores scores = Scores::kSoftmax;
  bool normalise = true, drop_zero = false, masked = false;
  int32_t groups = 1, top_groups = 1;
  float norm_std = 0.0f;
  float input_scale = 1.0f;  // 1, or 2 when experts are fed twice the input
  float weight_scale = 1.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.attribute("experts", experts);
    v.in("logits", logits, "T E", DType::kF32);
    if (experts.count(ExpertKind::kConstant) > 0)
      v.in("constant_scores", constant_scores, "T X", DType::kF32);
    v.optional_weight("selection_bias", selection_bias, "E", Layout::kRows);
    v.out("expert_indices", expert_indices, "T K", DType::kI32);
    v.out("expert_weights", expert_weights, "T K", DType::kF32);
    v.out("coefficients", coefficients, "T _", DType::kF32);
    v.out("expert_offsets", expert_offsets, "_", DType::kI32);
    v.out("token_order", token_order, "T K", DType::kI32);
    v.out("expert_rows", expert_rows, "T K", DType::kI32);
    v.attribute("scores", scores);
    v.attribute("normalise", normalise);
    v.attribute("drop_zero", drop_zero);
    v.attribute("masked", masked);
    v.attribute("groups", groups);
    v.attribute("top_groups", top_groups);
    v.attribute("norm_std", norm_std);
    v.attribute("input_scale", input_scale);
    v.attribute("weight_scale", weight_scale);
  }
};

inline std::string bad_choice(const RouteTopKArgs& a) {
  const int64_t experts = a.logits->shape[1], chosen = a.expert_indices->shape[1];
  if (experts > kMostExperts || chosen < 1 || chosen > kMostChosen || chosen > experts) {
    return "top-k takes 1 to " + std::to_string(kMostChosen) + " of at most " +
           std::to_string(kMostExperts) + " experts";
  }
  // A warp of a GPU has a lane for each group.
  if (a.groups < 1 || a.groups > 32 || experts % a.groups != 0 || a.top_groups < 1 ||
      a.top_groups > a.groups || (a.groups > 1 && experts / a.groups < 2))
    return "groups must be 1 to 32 equal runs of two or more experts, and top_groups among them";
  return {};
}

inline std::string broken_relation(const RouteTopKArgs& a) {
  const int64_t constants = a.experts.count(ExpertKind::kConstant),
                ffn = a.experts.count(ExpertKind::kFfn);
  if (a.experts.experts != a.logits->shape[1]) {
    return "experts are " + std::to_string(a.experts.experts) + ", expected " +
           std::to_string(a.logits->shape[1]) + ", as there are logits";
  }
  if (constants > 0 && a.constant_scores->shape[1] != 2 * constants)
    return "constant_scores must be [T, " + std::to_string(2 * constants) + "]";
  if (a.coefficients->shape[1] != constants + 1)
    return "coefficients must be [T, " + std::to_string(constants + 1) + "]";
  if (a.expert_offsets->rank != 1 || a.expert_offsets->shape[0] != ffn + 1)
    return "expert_offsets must be [" + std::to_string(ffn + 1) + "]";
  const std::string broken = bad_choice(a);
  if (!broken.empty()) return broken;
  if (a.scores != Scores::kSoftmax && a.scores != Scores::kSigmoid)
    return "scores must be softmax or sigmoid";
  if (a.masked && a.norm_std != 0) return "norm_std must be 0 with masked experts";
  return a.input_scale > 0 && a.norm_std >= 0 && a.weight_scale > 0
             ? ""
             : "input_scale and weight_scale must be positive and norm_std not negative";
}

}  // namespace moepp
