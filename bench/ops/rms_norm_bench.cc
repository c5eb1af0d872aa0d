#include "shapes.h"

namespace moepp::bench {

MOEPP_BENCH(rms_norm) {
  for (int64_t t : kStepTokens) {
    Floats x({t, kHidden}, 1), delta({t, kHidden}, 2), weight({kHidden}, 3), sum({t, kHidden}, 4), out({t, kHidden}, 5);
    const RmsNormArgs args = {&x.tensor, &delta.tensor, &weight.tensor, &sum.tensor, &out.tensor, 1e-6f};
    const auto call = [&](int64_t) { run.isa.kernels->rms_norm(args, run.pool); };
    call(0);
    run.row({"rms_norm with delta, 1536", "f32", t, static_cast<double>(16 * t * kHidden), 0.0},
            test::check_rms_norm(args, test::sample(t, 50)), call);
  }
}

}  // namespace moepp::bench
