#include "bench.h"

namespace moepp::bench {

// Other tokens in each call: the table lies in memory.
static void embedding_rows(Run& run, Layout layout) {
  const int64_t h = run.sizes.hidden, v = run.sizes.vocabulary;
  constexpr int64_t kSteps = 32;
  Weight table(run, DType::kBf16, layout, {v, h}, 1);
  for (int64_t t : run.sizes.step_tokens) {
    Ints tokens(run, {kSteps, t});
    for (int64_t i = 0; i < kSteps * t; i++)
      tokens.host()[i] = static_cast<int32_t>(static_cast<uint64_t>(i) * 40503 % v);
    tokens.upload();
    Tensor step = test::tensor(tokens.device(), DType::kI32, {t});
    Floats out(run, {t, h});
    const EmbeddingArgs args = {&step, &table.tensor, &out.tensor};
    const std::string name = "embedding " + std::to_string(v) + " x " + std::to_string(h);
    run.row(
        {layout == Layout::kRows ? name : name + ", panels",
         DType::kBf16,
         t,
         {static_cast<double>(2 * t * h), static_cast<double>(4 * t * h)}},
        args, [&](const EmbeddingArgs& a) { return test::check_embedding(a, test::sample(t, 50)); },
        [&](int64_t i) {
          step.data = tokens.device() + i % kSteps * t;
          run.kernels().embedding(args, run.device().queue());
        });
  }
}

MOEPP_BENCH(embedding) {
  embedding_rows(run, Layout::kRows);
}
MOEPP_BENCH(embedding_panels) {
  embedding_rows(run, Layout::kMatrix);
}

}  // namespace moepp::bench
