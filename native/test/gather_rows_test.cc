#include "backends.h"
#include "reference.h"

namespace moepp::test {

MOEPP_TEST(gather_rows) {
  const int64_t shapes[][3] = {{1, 1, 1}, {5, 0, 8}, {5, 3, 7}, {40, 90, 1536}};  // T, R, H
  for_each_backend([&](const Backend& backend) {
    for (const auto& [t, r, h] : shapes) {
      Guarded<float> x = filled(t * h, 1), out(r * h);
      Guarded<int32_t> rows(r);
      for (int64_t i = 0; i < r; i++) rows[i] = static_cast<int32_t>((t - 1 + 7 * i) % t);
      const Tensor xt = whole(x, {t, h}), rt = whole(rows, {r});
      Tensor ot = whole(out, {r, h});
      const GatherRowsArgs args = {&xt, &rt, &ot};
      backend.isa.kernels->gather_rows(args, backend.pool);
      expect_no_difference(backend.name, check_gather_rows(args));
      expect_intact(backend.name, out);
    }
  });
}

}  // namespace moepp::test
