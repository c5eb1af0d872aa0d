#include "shapes.h"

namespace moepp::bench {

// Values and indices of the largest, as greedy and top-k sampling ask for them; then the sum of the exponentials too. Rows are as
// even as a random model's, so that the largest are anywhere.
static void top_rows(Run& run, bool with_sum) {
  constexpr int64_t kTop = 256;
  for (int64_t r : {1, 8, 64}) {
    Floats logits({r, kVocabulary}, 1, 8.0f), top({r, kTop}, 2), sums({r}, 3);
    Ints indices({r, kTop});
    const TopLogitsArgs args = {&logits.tensor, &top.tensor, &indices.tensor, with_sum ? &sums.tensor : nullptr};
    const auto call = [&](int64_t) { run.isa.kernels->top_logits(args, run.pool); };
    call(0);
    run.row({with_sum ? "top_logits 256 of 65536, with exp_sum" : "top_logits 256 of 65536", "f32", r,
             static_cast<double>(4 * r * kVocabulary), 0.0},
            test::check_top_logits(args), call);
  }
}

MOEPP_BENCH(top_logits) {
  top_rows(run, false);
  top_rows(run, true);
}

}  // namespace moepp::bench
