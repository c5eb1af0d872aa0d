#include "arrays.h"

namespace moepp::bench {

// Weights of all layers in turn, as in router_logits.
MOEPP_BENCH(norm_route_top_k) {
  const Sizes& s = run.sizes;
  const int64_t h = s.hidden, e = s.experts(), x_rows = 2 * s.constants, k = s.top_k;
  Floats weight(run, {h}, 1), router(run, {s.layers * e, h}, 2), map(run, {e, e}, 3),
      constant(run, {s.layers * x_rows, h}, 4);
  for (int64_t t : s.step_tokens) {
    Floats x(run, {t, h}, 5), delta(run, {t, h}, 6), previous(run, {t, e}, 7), sum(run, {t, h}),
        out(run, {t, h});
    Floats logits(run, {t, e}), scores(run, {t, x_rows}), weights(run, {t, k}),
        coefficients(run, {t, s.constants + 1});
    Ints indices(run, {t, k}), offsets(run, {s.ffn_experts + 1}), order(run, {t, k}),
        rows(run, {t, k});
    Tensor rt = test::tensor(router.device(), DType::kF32, {e, h});
    Tensor ct = test::tensor(constant.device(), DType::kF32, {x_rows, h});
    NormRouteTopKArgs args = {};
    args.x = &x.tensor, args.delta = &delta.tensor, args.previous_logits = &previous.tensor;
    args.norm_weight = &weight.tensor, args.router = &rt, args.residual_map = &map.tensor,
    args.constant_router = &ct;
    args.sum = &sum.tensor, args.out = &out.tensor, args.logits = &logits.tensor,
    args.constant_scores = &scores.tensor;
    args.expert_indices = &indices.tensor, args.expert_weights = &weights.tensor,
    args.coefficients = &coefficients.tensor;
    args.expert_offsets = &offsets.tensor, args.token_order = &order.tensor,
    args.expert_rows = &rows.tensor;
    args.eps = 1e-6f, args.norm_std = args.input_scale = 1.0f;
    const double products = static_cast<double>(t * ((e + x_rows) * h + e * e));
    run.row(
        {"norm_route_top_k " + std::to_string(h) + " -> " + std::to_string(e) + " + " +
             std::to_string(x_rows) + ", top " + std::to_string(k),
         DType::kF32,
         t,
         {static_cast<double>(4 * (e + x_rows + 2 * t) * h), static_cast<double>(8 * t * h)},
         2.0 * products},
        args,
        [&](const NormRouteTopKArgs& a) {
          return test::check_norm_route_top_k(a, test::sample(t, 50));
        },
        [&](int64_t i) {
          rt.data = router.device() + i % s.layers * e * h;
          ct.data = constant.device() + i % s.layers * x_rows * h;
          run.kernels().norm_route_top_k(args, run.device().queue());
        });
  }
}

}  // namespace moepp::bench
