#include "shapes.h"

namespace moepp::bench {

// Weights of all 24 layers in turn, as in router_logits.
MOEPP_BENCH(norm_route_top_k) {
  constexpr int64_t kLayers = 24, kScores = 2 * kConstants;
  Floats weight({kHidden}, 1), router({kLayers * kExperts, kHidden}, 2), map({kExperts, kExperts}, 3);
  Floats constant({kLayers * kScores, kHidden}, 4);
  for (int64_t t : kStepTokens) {
    Floats x({t, kHidden}, 5), delta({t, kHidden}, 6), previous({t, kExperts}, 7), sum({t, kHidden}, 8), out({t, kHidden}, 9);
    Floats logits({t, kExperts}, 10), scores({t, kScores}, 11), weights({t, kTopK}, 12), coefficients({t, kConstants + 1}, 13);
    Ints indices({t, kTopK}), offsets({kFfnExperts + 1}), order({t, kTopK}), rows({t, kTopK});
    Tensor rt = test::tensor(router.data, DType::kF32, {kExperts, kHidden});
    Tensor ct = test::tensor(constant.data, DType::kF32, {kScores, kHidden});
    NormRouteTopKArgs args = {};
    args.x = &x.tensor, args.delta = &delta.tensor, args.previous_logits = &previous.tensor;
    args.norm_weight = &weight.tensor, args.router = &rt, args.residual_map = &map.tensor, args.constant_router = &ct;
    args.sum = &sum.tensor, args.out = &out.tensor, args.logits = &logits.tensor, args.constant_scores = &scores.tensor;
    args.expert_indices = &indices.tensor, args.expert_weights = &weights.tensor, args.coefficients = &coefficients.tensor;
    args.expert_offsets = &offsets.tensor, args.token_order = &order.tensor, args.expert_rows = &rows.tensor;
    args.eps = 1e-6f, args.norm_std = args.input_scale = 1.0f;
    const auto call = [&](int64_t i) {
      rt.data = router.data + i % kLayers * kExperts * kHidden;
      ct.data = constant.data + i % kLayers * kScores * kHidden;
      run.isa.kernels->norm_route_top_k(args, run.pool);
    };
    call(0);
    const double products = static_cast<double>(t * ((kExperts + kScores) * kHidden + kExperts * kExperts));
    run.row({"norm_route_top_k 1536 -> 20 + 4, top 2", "f32", t, static_cast<double>(4 * (kExperts + kScores + 4 * t) * kHidden),
             2.0 * products},
            test::check_norm_route_top_k(args, test::sample(t, 50)), call);
  }
}

}  // namespace moepp::bench
