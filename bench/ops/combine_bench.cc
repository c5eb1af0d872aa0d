#include <random>

#include "bench.h"

namespace moepp::bench {

// Picks as a router that spreads tokens evenly makes them.
MOEPP_BENCH(combine) {
  for (const RouterShape& s : run.sizes.routers()) {
    const int64_t h = s.hidden, k = s.top_k, c = s.constants;
    for (int64_t t : run.sizes.step_tokens) {
      Floats residual(run, {t, h}, 1), x(run, {t, h}, 2), expert_out(run, {t, k, h}, 3),
          coefficients(run, {t, c + 1}, 4);
      Floats weights(run, {t, k}, 5), constants(run, {c, h}, 6), norm_weight(run, {h}, 7),
          sum(run, {t, h}), out(run, {t, h});
      const double ffn_share = static_cast<double>(s.ffn) / static_cast<double>(s.experts());
      const Picks picks = draw_picks(t, k, s.ffn, s.experts() - s.ffn, ffn_share, 10);
      Ints rows(run, {t, k});
      set(rows, picks.rows);
      std::mt19937 random(11);
      for (int64_t i = 0; i < t * (c + 1); i++) {
        if (random() % 4 != 0) coefficients.host()[i] = 0.0f;
      }
      coefficients.upload();
      CombineArgs args = {};
      args.residual = &residual.tensor, args.x = &x.tensor, args.expert_out = &expert_out.tensor;
      args.coefficients = &coefficients.tensor, args.expert_weights = &weights.tensor;
      args.expert_rows = &rows.tensor, args.sum = &sum.tensor;
      args.constants = c > 0 ? &constants.tensor : nullptr;
      args.norm_weight = &norm_weight.tensor, args.out = &out.tensor, args.eps = 1e-6f;
      run.row(
          {"combine " + std::to_string(h) + ", top " + std::to_string(k) + " of " +
               std::to_string(s.experts()),
           DType::kF32,
           t,
           {static_cast<double>((8 * t + 4 * picks.offsets.back()) * h),
            static_cast<double>(8 * t * h)}},
          args, [&](const CombineArgs& a) { return test::check_combine(a, test::sample(t, 50)); },
          [&](int64_t) { run.kernels().combine(args, run.device().queue()); });
    }
  }
}

}  // namespace moepp::bench
