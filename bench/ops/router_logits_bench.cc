#include "routing.h"

namespace moepp::bench {

MOEPP_BENCH(router_logits) {
  for (const RouterShape& s : run.sizes.routers()) {
    RouterWeights weights(run, s);
    for (int64_t t : run.sizes.step_tokens) {
      Floats x(run, {t, s.hidden}, 5), previous(run, {t, s.experts()}, 7);
      RouteArrays to(run, s, t);
      const RouterLogitsArgs args = weights.args(x.tensor, previous.tensor, to);
      run.row(
          {"router_logits " + weights.name(),
           DType::kF32,
           t,
           {static_cast<double>(4 * (weights.rows() + t) * s.hidden), 0.0},
           2.0 * weights.products() * static_cast<double>(t)},
          args,
          [&](const RouterLogitsArgs& a) {
            return test::check_router_logits(a, test::sample(t, 50));
          },
          [&](int64_t i) {
            weights.use_copy(i);
            run.kernels().router_logits(args, run.device().queue());
          });
    }
  }
}

}  // namespace moepp::bench
