#include "shapes.h"

namespace moepp::bench {

MOEPP_BENCH(gather_rows) {
  for (int64_t t : kStepTokens) {
    Floats x({t, kHidden}, 1), out({t, kHidden}, 2);
    Ints rows({t});
    for (int64_t i = 0; i < t; i++) rows.data[static_cast<size_t>(i)] = static_cast<int32_t>(t - 1 - i);
    const GatherRowsArgs args = {&x.tensor, &rows.tensor, &out.tensor};
    const auto call = [&](int64_t) { run.isa.kernels->gather_rows(args, run.pool); };
    call(0);
    run.row({"gather_rows 1536", "f32", t, static_cast<double>(8 * t * kHidden), 0.0}, test::check_gather_rows(args), call);
  }
}

}  // namespace moepp::bench
