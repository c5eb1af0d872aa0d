#include <random>

#include "arrays.h"

namespace moepp::bench {

// Picks as a router that spreads tokens evenly makes them.
MOEPP_BENCH(combine) {
  const Sizes& s = run.sizes;
  const int64_t h = s.hidden, k = s.top_k, c = s.constants;
  for (int64_t t : s.step_tokens) {
    Floats residual(run, {t, h}, 1), x(run, {t, h}, 2), expert_out(run, {t, k, h}, 3),
        coefficients(run, {t, c + 1}, 4);
    Floats weights(run, {t, k}, 5), constants(run, {c, h}, 6), norm_weight(run, {h}, 7),
        sum(run, {t, h}), out(run, {t, h});
    const double ffn_share = static_cast<double>(s.ffn_experts) / static_cast<double>(s.experts());
    const Picks picks = draw_picks(t, k, s.ffn_experts, c + 2, ffn_share, 10);
    Ints rows(run, {t, k});
    set(rows, picks.rows);
    std::mt19937 random(11);
    for (int64_t i = 0; i < t * (c + 1); i++) {
      if (random() % 4 != 0) coefficients.host()[i] = 0.0f;
    }
    coefficients.upload();
    const CombineArgs args = {&residual.tensor,     &x.tensor,           &expert_out.tensor,
                              &coefficients.tensor, &weights.tensor,     &rows.tensor,
                              &constants.tensor,    &norm_weight.tensor, nullptr,
                              &sum.tensor,          &out.tensor,         1e-6f};
    run.row(
        {"combine " + std::to_string(h) + ", top " + std::to_string(k),
         DType::kF32,
         t,
         {static_cast<double>((8 * t + 4 * picks.offsets.back()) * h),
          static_cast<double>(8 * t * h)}},
        args, [&](const CombineArgs& a) { return test::check_combine(a, test::sample(t, 50)); },
        [&](int64_t) { run.kernels().combine(args, run.device().queue()); });
  }
}

}  // namespace moepp::bench
