#include "kernel_test.h"

namespace moepp::simt_test {

MOEPP_TEST(simt_rope_table) {
  const int64_t shapes[][2] = {{1, 1}, {5, 10}, {70, 48}, {3, 128}};  // T, D/2
  for (const auto& [t, count] : shapes) {
    for (const auto& [divisor, magnitude] :
         {std::pair{1.0f, 1.0f}, {2.5f, 1.0f}, {1.0f, 1.1386294f}, {1.0f, 0.3f}}) {
      // Three sequences, the second empty; large positions; a base of its own for each sequence.
      Shared<int32_t> positions(static_cast<size_t>(t)), starts(4);
      for (int64_t i = 0; i < t; i++) {
        positions[static_cast<size_t>(i)] = static_cast<int32_t>(i % 3 == 0   ? i
                                                                 : i % 3 == 1 ? 100000 + i
                                                                              : INT32_MAX - i);
      }
      starts[0] = 0, starts[1] = starts[2] = static_cast<int32_t>((t + 1) / 2),
      starts[3] = static_cast<int32_t>(t);
      Shared<float> frequencies(static_cast<size_t>(3 * count)), cosine = unwritten(t * count),
                                                                 sine = unwritten(t * count);
      for (int64_t i = 0; i < 3 * count; i++) {
        frequencies[static_cast<size_t>(i)] =
            std::pow(1e4f * static_cast<float>(1 + i / count),
                     -static_cast<float>(i % count) / static_cast<float>(count));
      }
      const Tensor pt = whole(positions, {t}), st = whole(starts, {4}),
                   ft = whole(frequencies, {3, count});
      Tensor ct = whole(cosine, {t, count}), nt = whole(sine, {t, count});
      const RopeTableArgs args = {&pt, &st, &ft, &ct, &nt, divisor, magnitude};
      const std::string label = "T " + std::to_string(t) + " D/2 " + std::to_string(count);
      run_op(cuda::rope_table, args, label);
      expect_no_difference(label, check_rope_table(args, all(t)));
    }
  }
}

}  // namespace moepp::simt_test
