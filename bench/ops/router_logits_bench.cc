#include "arrays.h"

namespace moepp::bench {

// Weights of all layers in turn: a decode step finds them in memory, or in a cache that the layers
// share.
MOEPP_BENCH(router_logits) {
  const Sizes& s = run.sizes;
  const int64_t h = s.hidden, e = s.experts(), scores_of = 2 * s.constants;
  Floats router(run, {s.layers * e, h}, 1), map(run, {e, e}, 2),
      constant(run, {s.layers * scores_of, h}, 3);
  for (int64_t t : s.step_tokens) {
    Floats x(run, {t, h}, 4), previous(run, {t, e}, 5), logits(run, {t, e}),
        scores(run, {t, scores_of});
    Tensor rt = test::tensor(router.device(), DType::kF32, {e, h});
    Tensor ct = test::tensor(constant.device(), DType::kF32, {scores_of, h});
    const RouterLogitsArgs args = {&x.tensor,   nullptr, &previous.tensor, &rt,
                                   &map.tensor, &ct,     &logits.tensor,   &scores.tensor};
    const double products = static_cast<double>(t * ((e + scores_of) * h + e * e));
    run.row(
        {"router_logits " + std::to_string(h) + " -> " + std::to_string(e) + " + " +
             std::to_string(scores_of),
         DType::kF32,
         t,
         {static_cast<double>(4 * (e + scores_of + t) * h), 0.0},
         2.0 * products},
        args,
        [&](const RouterLogitsArgs& a) {
          return test::check_router_logits(a, test::sample(t, 50));
        },
        [&](int64_t i) {
          rt.data = router.device() + i % s.layers * e * h;
          ct.data = constant.device() + i % s.layers * scores_of * h;
          run.kernels().router_logits(args, run.device().queue());
        });
  }
}

}  // namespace moepp::bench
