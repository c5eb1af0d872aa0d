#include <algorithm>

#include "backends.h"
#include "reference.h"

namespace moepp::test {

struct TopData {
  int64_t r, v, k;
  Guarded<float> logits, top, sums;
  Guarded<int32_t> indices;

  TopData(int64_t r, int64_t v, int64_t k, float scale = 8.0f)
      : r(r), v(v), k(k), logits(filled(r * v, 1, scale)), top(r * k), sums(r), indices(r * k) {}

  // Runs rows [first, first + count); what the reference says is wrong.
  std::string run(const Backend& backend, int64_t first, int64_t count, bool with_top = true,
                  bool with_sum = true) {
    const Tensor lt = rows_of(whole(logits, {r, v}), first, count);
    Tensor tt = rows_of(whole(top, {r, k}), first, count),
           it = rows_of(whole(indices, {r, k}), first, count);
    Tensor st = rows_of(whole(sums, {r}), first, count);
    const TopLogitsArgs args = {&lt, with_top ? &tt : nullptr, with_top ? &it : nullptr,
                                with_sum ? &st : nullptr};
    backend.isa.kernels->top_logits(args, backend.pool);
    expect_intact(backend.name, top);
    expect_intact(backend.name, indices);
    expect_intact(backend.name, sums);
    return check_top_logits(args);
  }
};

static std::string label_of(const Backend& backend, const TopData& d) {
  return backend.name + " R " + std::to_string(d.r) + " V " + std::to_string(d.v) + " K " +
         std::to_string(d.k);
}

MOEPP_TEST(top_logits) {
  const int64_t shapes[][3] = {{1, 1, 1},      {2, 2, 2},      {3, 15, 4},      {2, 16, 16},
                               {2, 17, 3},     {5, 300, 256},  {3, 1000, 1},    {2, 1024, 256},
                               {3, 4096, 256}, {2, 16411, 50}, {1, 65536, 256}, {9, 5003, 64}};
  for_each_backend([&](const Backend& backend) {
    for (const auto& [r, v, k] : shapes) {
      for (float scale : {8.0f, 1e-3f, 1e5f, 3e38f}) {
        TopData d(r, v, k, scale);
        expect_no_difference(label_of(backend, d), d.run(backend, 0, r));
        const TopData before = d;
        for (int64_t row : {int64_t{0}, r / 2, r - 1})
          expect_no_difference(label_of(backend, d), d.run(backend, row, 1));
        EXPECT_MESSAGE(same_bits(d.sums.data(), before.sums.data(), static_cast<size_t>(r) * 4),
                       label_of(backend, d));
      }
    }
  });
}

// Few different values, so that ties reach beyond the k-th; descending and ascending rows; all
// equal.
MOEPP_TEST(top_logits_of_ties_and_of_sorted_rows) {
  for_each_backend([&](const Backend& backend) {
    for (int64_t v : {40, 3000, 20000}) {
      for (int64_t k : {1, 7, 40}) {
        TopData d(5, v, k);
        for (int64_t i = 0; i < v; i++) {
          d.logits[i] = std::floor(d.logits[i]);
          d.logits[v + i] = static_cast<float>(i);
          d.logits[2 * v + i] = static_cast<float>(v - i);
          d.logits[3 * v + i] = -2.5f;
          d.logits[4 * v + i] = i % 2 == 0 ? 0.0f : -0.0f;  // equal, with different bits
        }
        expect_no_difference(label_of(backend, d), d.run(backend, 0, 5));
      }
    }
  });
}

MOEPP_TEST(top_logits_of_nan_and_infinity) {
  for_each_backend([&](const Backend& backend) {
    for (int64_t v : {9, 1000, 5001}) {
      TopData d(7, v, 8);
      d.logits[v - 1] = NAN;
      d.logits[v + 3] = d.logits[v + 7] = NAN;
      d.logits[2 * v + 5] = INFINITY;
      d.logits[2 * v + 2] = -INFINITY;
      for (int64_t i = 0; i < v; i++) d.logits[3 * v + i] = i == v / 2 ? 1.0f : -INFINITY;
      for (int64_t i = 0; i < v; i++) d.logits[4 * v + i] = -INFINITY;
      for (int64_t i = 0; i < v; i++) d.logits[5 * v + i] = NAN;
      expect_no_difference(label_of(backend, d), d.run(backend, 0, 7));
      EXPECT_MESSAGE(d.indices[0] == v - 1 && d.indices[8] == 3 && d.indices[16] == 5,
                     label_of(backend, d));
      EXPECT_MESSAGE(std::isnan(d.sums[0]) && std::isnan(d.sums[2]) && d.sums[3] == 1.0f,
                     label_of(backend, d));
      EXPECT_MESSAGE(std::isnan(d.sums[4]) && std::isnan(d.sums[5]) && d.sums[6] >= 1.0f,
                     label_of(backend, d));
    }
  });
}

MOEPP_TEST(top_logits_writes_what_is_asked) {
  for_each_backend([&](const Backend& backend) {
    TopData d(2, 100, 5);
    expect_no_difference(backend.name, d.run(backend, 0, 0));
    EXPECT_MESSAGE(d.top.poisoned(0, 10) && d.sums.poisoned(0, 2), backend.name);
    expect_no_difference(backend.name, d.run(backend, 0, 2, false, true));
    EXPECT_MESSAGE(d.top.poisoned(0, 10) && d.indices.poisoned(0, 10) && !d.sums.poisoned(0, 2),
                   backend.name);
    TopData e(2, 100, 5);
    expect_no_difference(backend.name, e.run(backend, 0, 2, true, false));
    EXPECT_MESSAGE(e.sums.poisoned(0, 2), backend.name);
  });
}

}  // namespace moepp::test
