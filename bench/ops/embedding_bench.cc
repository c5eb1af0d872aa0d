#include "shapes.h"

namespace moepp::bench {

static void embedding_rows(Run& run, Layout layout) {
  Buffer table(static_cast<size_t>(kVocabulary * kHidden * 2));
  test::fill_panels(table.as<char>(), DType::kBf16, Layout::kPanels, 1, kVocabulary, kHidden, 1,
                    1.0f);  // or rows of the same values
  const Tensor weight = test::tensor(table.as<char>(), DType::kBf16, {kVocabulary, kHidden}, layout);
  for (int64_t t : kStepTokens) {
    Ints tokens({t});
    Floats out({t, kHidden}, 2);
    const EmbeddingArgs args = {&tokens.tensor, &weight, &out.tensor};
    const auto call = [&](int64_t i) {  // other tokens each time: the table lies in memory
      for (size_t j = 0; j < tokens.data.size(); j++) {
        tokens.data[j] = static_cast<int32_t>((static_cast<uint64_t>(i) * tokens.data.size() + j) * 40503 % kVocabulary);
      }
      run.isa.kernels->embedding(args, run.pool);
    };
    call(0);
    run.row({layout == Layout::kRows ? "embedding 65536 x 1536" : "embedding 65536 x 1536, panels", "bf16", t,
             static_cast<double>(6 * t * kHidden), 0.0},
            test::check_embedding(args, test::sample(t, 50)), call);
  }
}

MOEPP_BENCH(embedding) {
  embedding_rows(run, Layout::kRows);
}
MOEPP_BENCH(embedding_panels) {
  embedding_rows(run, Layout::kPanels);
}

}  // namespace moepp::bench
