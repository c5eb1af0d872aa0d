#include "shapes.h"

namespace moepp::bench {

// Bound by neither bytes nor operations: the row shows a time.
MOEPP_BENCH(route_top_k) {
  for (int64_t t : kStepTokens) {
    Floats logits({t, kExperts}, 1), scores({t, 2 * kConstants}, 2), weights({t, kTopK}, 3), coefficients({t, kConstants + 1}, 4);
    Ints indices({t, kTopK}), offsets({kFfnExperts + 1}), order({t, kTopK}), rows({t, kTopK});
    const RouteTopKArgs args = {&logits.tensor,
                                &scores.tensor,
                                &indices.tensor,
                                &weights.tensor,
                                &coefficients.tensor,
                                &offsets.tensor,
                                &order.tensor,
                                &rows.tensor,
                                1.0f,
                                1.0f,
                                false};
    const auto call = [&](int64_t) { run.isa.kernels->route_top_k(args, run.pool); };
    call(0);
    run.row({"route_top_k 20, top 2", "f32", t,
             static_cast<double>(4 * t * (kExperts + 2 * kConstants + 4 * kTopK + kConstants + 1)), 0.0},
            test::check_route_top_k(args), call);
  }
}

}  // namespace moepp::bench
