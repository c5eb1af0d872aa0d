#include "bench.h"

namespace moepp::bench {

// Values and indices of the largest, as greedy and top-k sampling ask for them; then the sum of the
// exponentials too. Rows are as even as a random model's, so that the largest are anywhere.
static void top_rows(Run& run, bool with_sum) {
  const int64_t v = run.sizes.vocabulary, k = run.sizes.top_logits;
  for (int64_t r : {1, 8, 64}) {
    Floats logits(run, {r, v}, 1, 8.0f), top(run, {r, k}), sums(run, {r});
    Ints indices(run, {r, k});
    const TopLogitsArgs args = {&logits.tensor, &top.tensor, &indices.tensor,
                                with_sum ? &sums.tensor : nullptr};
    const std::string name = "top_logits " + std::to_string(k) + " of " + std::to_string(v);
    run.row({with_sum ? name + ", with exp_sum" : name,
             DType::kF32,
             r,
             {static_cast<double>(4 * r * v), 0.0}},
            args, &test::check_top_logits,
            [&](int64_t) { run.kernels().top_logits(args, run.device().queue()); });
  }
}

MOEPP_BENCH(top_logits) {
  top_rows(run, false);
  top_rows(run, true);
}

}  // namespace moepp::bench
