#include "routing.h"

namespace moepp::bench {

MOEPP_BENCH(norm_route_top_k) {
  for (const RouterShape& s : run.sizes.routers()) {
    const int64_t h = s.hidden;
    RouterWeights weights(run, s);
    Floats norm(run, {h}, 1);
    for (int64_t t : run.sizes.step_tokens) {
      Floats x(run, {t, h}, 5), delta(run, {t, h}, 6), previous(run, {t, s.experts()}, 7),
          sum(run, {t, h}), out(run, {t, h});
      RouteArrays to(run, s, t);
      const NormRouteTopKArgs args = {
          {&x.tensor, &delta.tensor, &norm.tensor, &sum.tensor, &out.tensor, 1e-6f},
          weights.args(out.tensor, previous.tensor, to),
          to.args()};
      run.row(
          {"norm_route_top_k " + weights.name() + ", top " + std::to_string(s.top_k),
           DType::kF32,
           t,
           {static_cast<double>(4 * (weights.rows() + 2 * t) * h), static_cast<double>(8 * t * h)},
           2.0 * weights.products() * static_cast<double>(t)},
          args,
          [&](const NormRouteTopKArgs& a) {
            return test::check_norm_route_top_k(a, test::sample(t, 50));
          },
          [&](int64_t i) {
            weights.use_copy(i);
            run.kernels().norm_route_top_k(args, run.device().queue());
          });
    }
  }
}

}  // namespace moepp::bench
