#include "kernel_test.h"

namespace moepp::simt_test {

MOEPP_TEST(simt_gather_rows) {
  // T, R, H
  const int64_t shapes[][3] = {{1, 1, 1}, {5, 0, 8}, {5, 3, 7}, {40, 90, 60}, {3, 2, 1536}};
  for (const auto& [t, r, h] : shapes) {
    Shared<float> x = filled(t * h, 1), out = unwritten(r * h);
    Shared<int32_t> rows(static_cast<size_t>(r));
    for (int64_t i = 0; i < r; i++)
      rows[static_cast<size_t>(i)] = static_cast<int32_t>((t - 1 + 7 * i) % t);
    const Tensor xt = whole(x, {t, h}), rt = whole(rows, {r});
    Tensor ot = whole(out, {r, h});
    const GatherRowsArgs args = {&xt, &rt, &ot};
    run_op(cuda::gather_rows, args, "H " + std::to_string(h));
    expect_no_difference("H " + std::to_string(h), check_gather_rows(args));
  }
}

}  // namespace moepp::simt_test
