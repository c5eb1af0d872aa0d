#include <set>

#include "backends.h"
#include "reference.h"

namespace moepp::test {

struct RouteFlags {
  float norm_std, input_scale;
  bool mixtral;
};

constexpr RouteFlags kRouteFlags[] = {{1.0f, 1.0f, false},
                                      {0.0f, 1.0f, false},
                                      {0.7f, 2.0f, false},
                                      {0.0f, 1.0f, true},
                                      {2.5f, 1.0f, true}};

struct RouteData {
  int64_t t, e, c, k;
  Guarded<float> logits, scores, weights, coefficients;
  Guarded<int32_t> indices, offsets, order, rows;

  RouteData(int64_t t, int64_t e, int64_t c, int64_t k)
      : t(t),
        e(e),
        c(c),
        k(k),
        logits(filled(t * e, 1)),
        scores(filled(t * 2 * c, 2, 3.0f)),
        weights(t * k),
        coefficients(t * (c + 1)),
        indices(t * k),
        offsets(e - c - 1),
        order(t * k),
        rows(t * k) {}

  // Runs tokens [first, first + count); what the reference says is wrong.
  std::string run(const Backend& backend, const RouteFlags& flags, int64_t first, int64_t count,
                  bool check = true) {
    const Tensor lt = rows_of(whole(logits, {t, e}), first, count),
                 st = rows_of(whole(scores, {t, 2 * c}), first, count);
    Tensor it = rows_of(whole(indices, {t, k}), first, count),
           wt = rows_of(whole(weights, {t, k}), first, count);
    Tensor ct = rows_of(whole(coefficients, {t, c + 1}), first, count),
           ot = whole(offsets, {e - c - 1});
    Tensor tt = rows_of(whole(order, {t, k}), first, count),
           rt = rows_of(whole(rows, {t, k}), first, count);
    const RouteTopKArgs args = {
        &lt, &st, &it, &wt, &ct, &ot, &tt, &rt, flags.norm_std, flags.input_scale, flags.mixtral};
    backend.isa.kernels->route_top_k(args, backend.pool);
    for (const auto* ints : {&indices, &offsets, &order, &rows}) expect_intact(backend.name, *ints);
    expect_intact(backend.name, weights);
    expect_intact(backend.name, coefficients);
    const int64_t used = offsets[e - c - 2];
    EXPECT_MESSAGE(first != 0 || count != t || order.poisoned(used, t * k),
                   backend.name + ": token_order written past the picks");
    return check ? check_route_top_k(args) : std::string();
  }
};

MOEPP_TEST(route_top_k) {
  const int64_t shapes[][4] = {{1, 4, 2, 1},    {1, 4, 2, 2},  {3, 5, 2, 2},   {5, 20, 2, 2},
                               {300, 20, 2, 2}, {40, 9, 2, 8}, {17, 12, 0, 3}, {64, 256, 4, 8}};
  for_each_backend([&](const Backend& backend) {
    for (const RouteFlags& flags : kRouteFlags) {
      for (const auto& [t, e, c, k] : shapes) {
        for (float scale : {1.0f, 1e-4f, 1e4f, 1e30f, 1e-30f}) {
          RouteData d(t, e, c, k);
          for (int64_t i = 0; i < t * e; i++)
            d.logits[i] = d.logits[i] * scale + (i % 3 == 0 ? 2.0f * scale : 0.0f);
          // Equal logits: tie after tie.
          for (int64_t i = 0; i < e; i++) d.logits[(t - 1) * e + i] = i % 2 == 0 ? scale : -scale;
          const std::string label = backend.name + " T " + std::to_string(t) + " E " +
                                    std::to_string(e) + " K " + std::to_string(k);
          expect_no_difference(label, d.run(backend, flags, 0, t));
          const RouteData before = d;
          for (int64_t row : {int64_t{0}, t / 2, t - 1}) {  // alone, a token gets the same bits
            expect_no_difference(label, d.run(backend, flags, row, 1));
          }
          EXPECT_MESSAGE(
              same_bits(d.weights.data(), before.weights.data(), static_cast<size_t>(t * k) * 4),
              label);
          EXPECT_MESSAGE(
              same_bits(d.indices.data(), before.indices.data(), static_cast<size_t>(t * k) * 4),
              label);
          EXPECT_MESSAGE(same_bits(d.coefficients.data(), before.coefficients.data(),
                                   static_cast<size_t>(t * (c + 1)) * 4),
                         label);
        }
      }
    }
  });
}

// All logits equal; the zero expert alone with weight; constant experts far on either side; one
// expert for all.
MOEPP_TEST(route_top_k_degenerate) {
  for_each_backend([](const Backend& backend) {
    for (const RouteFlags& flags : kRouteFlags) {
      for (int64_t k : {1, 2, 3}) {
        RouteData d(6, 8, 2, k);
        for (int64_t i = 0; i < 6 * 8; i++) d.logits[i] = 0.0f;
        d.logits[8 + 7] = 1000.0f;    // the zero expert
        d.logits[2 * 8 + 7] = 50.0f;  // the zero expert, the others barely alive
        for (int64_t i = 0; i < 8; i++) d.logits[3 * 8 + i] = 3.5e8f;  // equal and large
        for (int64_t i = 0; i < 8; i++) d.logits[4 * 8 + i] = i < 5 ? -1.0f : 1.0f;
        for (int64_t i = 0; i < 8; i++) d.scores[3 * 4 + i] = i % 2 == 0 ? 300.0f : -300.0f;
        expect_no_difference(backend.name + " K " + std::to_string(k), d.run(backend, flags, 0, 6));
      }
    }
  });
}

// For any logits, indices are valid and distinct, the sorted picks consistent, and a token of NaNs
// is alone in its NaNs.
MOEPP_TEST(route_top_k_of_nan_and_infinity) {
  for_each_backend([](const Backend& backend) {
    for (const RouteFlags& flags : kRouteFlags) {
      for (int64_t k : {1, 2, 8}) {
        RouteData d(6, 8, 2, k);
        for (int64_t i = 0; i < 8; i++) d.logits[i] = NAN;
        d.logits[8 + 3] = NAN;
        d.logits[2 * 8 + 3] = INFINITY;
        for (int64_t i = 0; i < 8; i++) d.logits[3 * 8 + i] = -INFINITY;
        d.logits[4 * 8] = -INFINITY;
        d.run(backend, flags, 0, 6, false);
        for (int64_t t = 0; t < 6; t++) {
          const std::set<int32_t> picks(d.indices.data() + t * k, d.indices.data() + (t + 1) * k);
          EXPECT_MESSAGE(
              static_cast<int64_t>(picks.size()) == k && *picks.begin() >= 0 && *picks.rbegin() < 8,
              backend.name);
        }
        const RouteData before = d;
        expect_no_difference(backend.name, d.run(backend, flags, 5, 1));
        EXPECT_MESSAGE(
            same_bits(d.weights.data(), before.weights.data(), static_cast<size_t>(6 * k) * 4),
            backend.name);
        EXPECT_MESSAGE(std::isnan(d.weights[0]) && std::isnan(d.weights[k]), backend.name);
        EXPECT_MESSAGE(before.offsets[0] == 0 && before.offsets[4] <= 6 * k, backend.name);
      }
    }
  });
}

}  // namespace moepp::test
