#include "arrays.h"

namespace moepp::bench {

MOEPP_BENCH(rms_norm) {
  const int64_t h = run.sizes.hidden;
  for (int64_t t : run.sizes.step_tokens) {
    Floats x(run, {t, h}, 1), delta(run, {t, h}, 2), weight(run, {h}, 3), sum(run, {t, h}),
        out(run, {t, h});
    const RmsNormArgs args = {&x.tensor,   &delta.tensor, &weight.tensor,
                              &sum.tensor, &out.tensor,   1e-6f};
    run.row(
        {"rms_norm with delta, " + std::to_string(h),
         DType::kF32,
         t,
         {static_cast<double>(8 * t * h), static_cast<double>(8 * t * h)}},
        args, [&](const RmsNormArgs& a) { return test::check_rms_norm(a, test::sample(t, 50)); },
        [&](int64_t) { run.kernels().rms_norm(args, run.device().queue()); });
  }
}

}  // namespace moepp::bench
