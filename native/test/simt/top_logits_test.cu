#include "kernel_test.h"

namespace moepp::simt_test {

struct TopData {
  int64_t r, v, k;
  Shared<float> logits, top, sums;
  Shared<int32_t> indices;

  TopData(int64_t r, int64_t v, int64_t k, float scale = 8.0f)
      : r(r),
        v(v),
        k(k),
        logits(filled(r * v, 1, scale)),
        top(unwritten(r * k)),
        sums(unwritten(r)),
        indices(static_cast<size_t>(r * k), -1) {}

  // Runs rows [first, first + count); what the reference says is wrong.
  std::string run(int64_t first, int64_t count, bool with_top = true, bool with_sum = true) {
    const Tensor lt = rows_of(whole(logits, {r, v}), first, count);
    Tensor tt = rows_of(whole(top, {r, k}), first, count),
           it = rows_of(whole(indices, {r, k}), first, count);
    Tensor st = rows_of(whole(sums, {r}), first, count);
    const TopLogitsArgs args = {&lt, with_top ? &tt : nullptr, with_top ? &it : nullptr,
                                with_sum ? &st : nullptr};
    run_op(cuda::top_logits, args, "top_logits");
    return check_top_logits(args);
  }
};

static std::string label_of(const TopData& d) {
  return "R " + std::to_string(d.r) + " V " + std::to_string(d.v) + " K " + std::to_string(d.k);
}

MOEPP_TEST(simt_top_logits) {
  const int64_t shapes[][3] = {{1, 1, 1},      {2, 2, 2},      {3, 15, 4},    {2, 17, 3},
                               {3, 300, 256},  {2, 1024, 256}, {2, 1025, 64}, {2, 4096, 256},
                               {1, 16411, 50}, {1, 32000, 256}};
  for (const auto& [r, v, k] : shapes) {
    for (float scale : {8.0f, 1e-3f, 3e38f}) {
      TopData d(r, v, k, scale);
      expect_no_difference(label_of(d), d.run(0, r));
      const Shared<float> sums = copy_of(d.sums);
      for (int64_t row : {int64_t{0}, r - 1}) expect_no_difference(label_of(d), d.run(row, 1));
      EXPECT_MESSAGE(same_rows(d.sums, sums), label_of(d));
    }
  }
}

MOEPP_TEST(simt_top_logits_in_every_order) {
  for_each_schedule([] {
    TopData d(1, 1500, 20);
    expect_no_difference(label_of(d), d.run(0, 1));
  });
}

// Few different values, so that ties reach beyond the k-th and what is collected; descending and
// ascending rows; all equal.
MOEPP_TEST(simt_top_logits_of_ties_and_of_sorted_rows) {
  for (int64_t v : {40, 3000}) {
    for (int64_t k : {1, 40}) {
      TopData d(5, v, k);
      for (int64_t i = 0; i < v; i++) {
        const auto at = [&](int64_t row) -> float& {
          return d.logits[static_cast<size_t>(row * v + i)];
        };
        at(0) = std::floor(at(0));
        at(1) = static_cast<float>(i);
        at(2) = static_cast<float>(v - i);
        at(3) = -2.5f;
        at(4) = i % 2 == 0 ? 0.0f : -0.0f;  // equal, with different bits
      }
      expect_no_difference(label_of(d), d.run(0, 5));
    }
  }
}

MOEPP_TEST(simt_top_logits_of_nan_and_infinity) {
  for (int64_t v : {9, 2001}) {
    TopData d(7, v, 8);
    const auto at = [&](int64_t row, int64_t i) -> float& {
      return d.logits[static_cast<size_t>(row * v + i)];
    };
    at(0, v - 1) = NAN;
    at(1, 3) = at(1, 7) = NAN;
    at(2, 5) = INFINITY;
    at(2, 2) = -INFINITY;
    for (int64_t i = 0; i < v; i++) {
      at(3, i) = i == v / 2 ? 1.0f : -INFINITY;
      at(4, i) = -INFINITY;
      at(5, i) = NAN;
    }
    expect_no_difference(label_of(d), d.run(0, 7));
    EXPECT(d.indices[0] == v - 1 && d.indices[8] == 3 && d.indices[16] == 5);
    EXPECT(std::isnan(d.sums[0]) && std::isnan(d.sums[2]) && d.sums[3] == 1.0f);
    EXPECT(std::isnan(d.sums[4]) && std::isnan(d.sums[5]) && d.sums[6] >= 1.0f);
  }
}

MOEPP_TEST(simt_top_logits_writes_what_is_asked) {
  TopData d(2, 100, 5);
  expect_no_difference(label_of(d), d.run(0, 0));
  EXPECT(d.indices[0] == -1 && std::isnan(d.sums[0]));
  expect_no_difference(label_of(d), d.run(0, 2, false, true));
  EXPECT(d.indices[0] == -1 && d.sums[0] >= 1.0f);
  TopData e(2, 100, 5);
  expect_no_difference(label_of(e), e.run(0, 2, true, false));
  EXPECT(std::isnan(e.sums[0]));
}

}  // namespace moepp::simt_test
