#include <random>

#include "shapes.h"

namespace moepp::bench {

// Picks as a router that spreads tokens evenly makes them: 16 of 20 experts are FFN.
MOEPP_BENCH(combine) {
  for (int64_t t : kStepTokens) {
    Floats residual({t, kHidden}, 1), x({t, kHidden}, 2), expert_out({t, kTopK, kHidden}, 3),
        coefficients({t, kConstants + 1}, 4);
    Floats weights({t, kTopK}, 5), constants({kConstants, kHidden}, 6), norm_weight({kHidden}, 7);
    Floats sum({t, kHidden}, 8), out({t, kHidden}, 9);
    Ints rows({t, kTopK});
    std::mt19937 random(10);
    int32_t used = 0;
    for (int32_t& row : rows.data) row = random() % kExperts < kFfnExperts ? used++ : -1;
    for (int64_t i = 0; i < coefficients.tensor.elements(); i++) {
      if (random() % 4 != 0) coefficients.data[i] = 0.0f;
    }
    const CombineArgs args = {&residual.tensor, &x.tensor,    &expert_out.tensor, &coefficients.tensor,
                              &weights.tensor,  &rows.tensor, &constants.tensor,  &norm_weight.tensor,
                              nullptr,          &sum.tensor,  &out.tensor,        1e-6f};
    const auto call = [&](int64_t) { run.isa.kernels->combine(args, run.pool); };
    call(0);
    run.row({"combine 1536, top 2", "f32", t, static_cast<double>((16 * t + 4 * used) * kHidden), 0.0},
            test::check_combine(args, test::sample(t, 50)), call);
  }
}

}  // namespace moepp::bench
