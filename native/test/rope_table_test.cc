#include "backends.h"
#include "reference.h"

namespace moepp::test {

MOEPP_TEST(rope_table) {
  const int64_t shapes[][2] = {{1, 1}, {5, 10}, {70, 48}, {3, 128}};  // T, D/2
  for_each_backend([&](const Backend& backend) {
    for (const auto& [t, count] : shapes) {
      for (const auto& [divisor, magnitude] :
           {std::pair{1.0f, 1.0f}, {2.5f, 1.0f}, {1.0f, 1.1386294f}, {1.0f, 0.3f}}) {
        // Three sequences, the second empty; large positions; a base of its own for each sequence.
        Guarded<int32_t> positions(t), starts(4);
        for (int64_t i = 0; i < t; i++)
          positions[i] = static_cast<int32_t>(i % 2 == 0 ? i : 100000 + i);
        starts[0] = 0, starts[1] = starts[2] = static_cast<int32_t>((t + 1) / 2),
        starts[3] = static_cast<int32_t>(t);
        Guarded<float> frequencies(3 * count), cosine(t * count), sine(t * count);
        for (int64_t i = 0; i < 3 * count; i++) {
          frequencies[i] = std::pow(1e4f * static_cast<float>(1 + i / count),
                                    -static_cast<float>(i % count) / static_cast<float>(count));
        }
        const Tensor pt = whole(positions, {t}), st = whole(starts, {4}),
                     ft = whole(frequencies, {3, count});
        Tensor ct = whole(cosine, {t, count}), nt = whole(sine, {t, count});
        const RopeTableArgs args = {&pt, &st, &ft, &ct, &nt, divisor, magnitude};
        backend.isa.kernels->rope_table(args, backend.pool);
        expect_no_difference(backend.name, check_rope_table(args, all(t)));
        expect_intact(backend.name, cosine);
        expect_intact(backend.name, sine);
      }
    }
  });
}

}  // namespace moepp::test
