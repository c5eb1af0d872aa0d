#include <set>

#include "op_test.h"

namespace moepp::simt_test {

struct RouteFlags {
  float norm_std, input_scale;
  bool mixtral;
};

constexpr RouteFlags kRouteFlags[] = {{1.0f, 1.0f, false},
                                      {0.0f, 1.0f, false},
                                      {0.7f, 2.0f, false},
                                      {0.0f, 1.0f, true},
                                      {2.5f, 1.0f, true}};
constexpr int32_t kUnwritten = INT32_MIN;

struct RouteData {
  int64_t t, e, c, k;
  Shared<float> logits, scores, weights, coefficients;
  Shared<int32_t> indices, offsets, order, rows;

  RouteData(int64_t t, int64_t e, int64_t c, int64_t k)
      : t(t),
        e(e),
        c(c),
        k(k),
        logits(filled(t * e, 1)),
        scores(filled(t * 2 * c, 2, 3.0f)),
        weights(unwritten(t * k)),
        coefficients(unwritten(t * (c + 1))),
        indices(static_cast<size_t>(t * k), kUnwritten),
        offsets(static_cast<size_t>(e - c - 1), kUnwritten),
        order(static_cast<size_t>(t * k), kUnwritten),
        rows(static_cast<size_t>(t * k), kUnwritten) {}

  // Runs tokens [first, first + count); what the reference says is wrong.
  std::string run(const RouteFlags& flags, int64_t first, int64_t count, bool check = true) {
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
    run_op(cuda::route_top_k, args, "route_top_k");
    bool past = false;  // token_order written past the picks
    if (first == 0 && count == t) {
      for (auto r = static_cast<size_t>(offsets[offsets.size() - 1]); r < order.size(); r++)
        past |= order[r] != kUnwritten;
    }
    EXPECT(!past);
    return check ? check_route_top_k(args) : std::string();
  }
};

static void expect_routes(int64_t t, int64_t e, int64_t c, int64_t k, const RouteFlags& flags,
                          float scale) {
  RouteData d(t, e, c, k);
  for (int64_t i = 0; i < t * e; i++) {
    float& logit = d.logits[static_cast<size_t>(i)];
    logit = logit * scale + (i % 3 == 0 ? 2.0f * scale : 0.0f);
  }
  // Equal logits: tie after tie.
  for (int64_t i = 0; i < e; i++)
    d.logits[static_cast<size_t>((t - 1) * e + i)] = i % 2 == 0 ? scale : -scale;
  const std::string label =
      "T " + std::to_string(t) + " E " + std::to_string(e) + " K " + std::to_string(k);
  expect_no_difference(label, d.run(flags, 0, t));
  const Shared<float> weights = copy_of(d.weights), coefficients = copy_of(d.coefficients);
  const Shared<int32_t> indices = copy_of(d.indices);
  for (int64_t row : {int64_t{0}, t / 2, t - 1}) {  // alone, a token gets the same bits
    expect_no_difference(label, d.run(flags, row, 1));
  }
  EXPECT_MESSAGE(same_rows(d.weights, weights), label);
  EXPECT_MESSAGE(same_rows(d.indices, indices), label);
  EXPECT_MESSAGE(same_rows(d.coefficients, coefficients), label);
}

// One block up to 32 tokens; then one block per 1024 picks.
MOEPP_TEST(simt_route_top_k) {
  const int64_t shapes[][4] = {{1, 4, 2, 1},   {1, 4, 2, 2},  {3, 5, 2, 2},   {5, 20, 2, 2},
                               {33, 20, 2, 2}, {40, 9, 2, 8}, {17, 12, 0, 3}, {9, 256, 4, 8}};
  for (const RouteFlags& flags : kRouteFlags) {
    for (const auto& [t, e, c, k] : shapes) {
      for (float scale : {1.0f, 1e-4f, 1e4f, 1e30f, 1e-30f})
        expect_routes(t, e, c, k, flags, scale);
    }
  }
}

MOEPP_TEST(simt_route_top_k_of_many) {
  for_each_schedule([] { expect_routes(270, 20, 2, 4, kRouteFlags[0], 1.0f); });
  expect_routes(130, 254, 3, 8, kRouteFlags[1], 1.0f);
}

MOEPP_TEST(simt_route_top_k_of_nothing) {
  RouteData d(3, 8, 2, 2);
  d.run(kRouteFlags[0], 0, 0, false);
  for (size_t i = 0; i < d.offsets.size(); i++) EXPECT(d.offsets[i] == 0);
  EXPECT(d.rows[0] == kUnwritten);
}

// All logits equal; the zero expert alone with weight; constant experts far on either side; one
// expert for all.
MOEPP_TEST(simt_route_top_k_degenerate) {
  for (const RouteFlags& flags : kRouteFlags) {
    for (int64_t k : {1, 2, 3}) {
      RouteData d(6, 8, 2, k);
      for (size_t i = 0; i < 6 * 8; i++) d.logits[i] = 0.0f;
      d.logits[8 + 7] = 1000.0f;    // the zero expert
      d.logits[2 * 8 + 7] = 50.0f;  // the zero expert, the others barely alive
      for (size_t i = 0; i < 8; i++) d.logits[3 * 8 + i] = 3.5e8f;  // equal and large
      for (size_t i = 0; i < 8; i++) d.logits[4 * 8 + i] = i < 5 ? -1.0f : 1.0f;
      for (size_t i = 0; i < 8; i++) d.scores[3 * 4 + i] = i % 2 == 0 ? 300.0f : -300.0f;
      expect_no_difference("K " + std::to_string(k), d.run(flags, 0, 6));
    }
  }
}

// For any logits, indices are valid and distinct, the sorted picks consistent, and a token of NaNs
// is alone in its NaNs.
MOEPP_TEST(simt_route_top_k_of_nan_and_infinity) {
  for (const RouteFlags& flags : kRouteFlags) {
    for (int64_t k : {1, 2, 8}) {
      RouteData d(6, 8, 2, k);
      for (size_t i = 0; i < 8; i++) d.logits[i] = NAN;
      d.logits[8 + 3] = NAN;
      d.logits[2 * 8 + 3] = INFINITY;
      for (size_t i = 0; i < 8; i++) d.logits[3 * 8 + i] = -INFINITY;
      d.logits[4 * 8] = -INFINITY;
      d.run(flags, 0, 6, false);
      for (int64_t t = 0; t < 6; t++) {
        const std::set<int32_t> picks(d.indices.data() + t * k, d.indices.data() + (t + 1) * k);
        EXPECT(static_cast<int64_t>(picks.size()) == k && *picks.begin() >= 0 &&
               *picks.rbegin() < 8);
      }
      EXPECT(d.offsets[0] == 0 && d.offsets[4] <= 6 * k);
      const Shared<float> weights = copy_of(d.weights);
      expect_no_difference("the token beside them", d.run(flags, 5, 1));
      EXPECT(same_rows(d.weights, weights));
      EXPECT(std::isnan(d.weights[0]) && std::isnan(d.weights[static_cast<size_t>(k)]));
    }
  }
}

}  // namespace moepp::simt_test
