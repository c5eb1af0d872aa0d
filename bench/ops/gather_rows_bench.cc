#include "bench.h"

namespace moepp::bench {

MOEPP_BENCH(gather_rows) {
  const int64_t h = run.sizes.hidden;
  for (int64_t t : run.sizes.step_tokens) {
    Floats x(run, {t, h}, 1), out(run, {t, h});
    Ints rows(run, {t});
    for (int64_t i = 0; i < t; i++) rows.host()[i] = static_cast<int32_t>(t - 1 - i);
    rows.upload();
    const GatherRowsArgs args = {&x.tensor, &rows.tensor, &out.tensor};
    run.row({"gather_rows " + std::to_string(h),
             DType::kF32,
             t,
             {static_cast<double>(4 * t * h), static_cast<double>(4 * t * h)}},
            args, &test::check_gather_rows,
            [&](int64_t) { run.kernels().gather_rows(args, run.device().queue()); });
  }
}

}  // namespace moepp::bench
