#include "arrays.h"

namespace moepp::bench {

// Bound by neither bytes nor operations: the row shows a time.
MOEPP_BENCH(route_top_k) {
  const Sizes& s = run.sizes;
  const int64_t e = s.experts(), k = s.top_k, c = s.constants;
  for (int64_t t : s.step_tokens) {
    Floats logits(run, {t, e}, 1), scores(run, {t, 2 * c}, 2), weights(run, {t, k}),
        coefficients(run, {t, c + 1});
    Ints indices(run, {t, k}), offsets(run, {s.ffn_experts + 1}), order(run, {t, k}),
        rows(run, {t, k});
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
    run.row(
        {"route_top_k " + std::to_string(e) + ", top " + std::to_string(k),
         DType::kF32,
         t,
         {static_cast<double>(4 * t * (e + 2 * c)), static_cast<double>(4 * t * (4 * k + c + 1))}},
        args, &test::check_route_top_k,
        [&](int64_t) { run.kernels().route_top_k(args, run.device().queue()); });
  }
}

}  // namespace moepp::bench
