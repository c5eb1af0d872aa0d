#include <algorithm>
#include <numeric>

#include "bench.h"
#include "op_test.h"

namespace moepp::test {

// Relative to the exact sum: 2 units in the last place for each exponential, and the rounding of
// its argument; 2^-22 for the sum.
static Bounded expected_exp_sum(const float* logits, int64_t v, double largest) {
  double total = 0.0, error = 0.0;
  for (int64_t i = 0; i < v; i++) {
    const double below = value(logits, i) - largest, e = std::exp(below);
    total += e;
    if (e > 0.0)
      error += e * (4.0 * kRoundoff + std::abs(below) * kRoundoff) + kSmallest * kRoundoff;
  }
  return {total, error + total * 0x1p-22};
}

std::string check_top_logits(const TopLogitsArgs& args) {
  const int64_t v = args.logits->shape[1];
  const Tensor* top = args.top_logits != nullptr ? args.top_logits : args.top_indices;
  for (int64_t r = 0; r < args.logits->shape[0]; r++) {
    const float* logits = args.logits->f32() + r * v;
    std::vector<int32_t> order(static_cast<size_t>(v));
    std::iota(order.begin(), order.end(), 0);
    const auto rank = [&](int32_t i) {
      return std::isnan(logits[i]) ? std::pair(1, 0.0f) : std::pair(0, logits[i]);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return rank(a) > rank(b); });
    for (int64_t k = 0; top != nullptr && k < top->shape[1]; k++) {
      const int64_t at = r * top->shape[1] + k;
      const int32_t expected = order[static_cast<size_t>(k)];
      const std::string where = "[" + std::to_string(r) + "][" + std::to_string(k) + "]";
      if (args.top_indices != nullptr && args.top_indices->i32()[at] != expected)
        return "top_indices" + where + " is " + std::to_string(args.top_indices->i32()[at]) +
               ", expected " + std::to_string(expected);
      if (args.top_logits != nullptr &&
          !same_bits(args.top_logits->f32() + at, logits + expected, 4))
        return "top_logits" + where;
    }
    if (args.exp_sum == nullptr) continue;
    const std::string text =
        difference(args.exp_sum->f32()[r], expected_exp_sum(logits, v, value(logits, order[0])));
    if (!text.empty()) return "exp_sum[" + std::to_string(r) + "] is " + text;
  }
  return {};
}

namespace {

struct Case {
  int64_t r, v, k;
  bool large = false;

  std::string name() const {
    return "R " + std::to_string(r) + " V " + std::to_string(v) + " K " + std::to_string(k);
  }
};

constexpr Case kCases[] = {{0, 100, 5},        {1, 1, 1},
                           {2, 2, 2},          {3, 15, 4},
                           {2, 16, 16},        {2, 17, 3},
                           {3, 300, 256},      {3, 1000, 1},
                           {2, 1024, 256},     {2, 1025, 64},
                           {2, 4096, 256},     {1, 16411, 50},
                           {1, 32000, 256},    {1, 65536, 256, true},
                           {9, 5003, 64, true}};

struct Data {
  Floats logits, top, sums;
  Ints indices;
  TopLogitsArgs args = {&logits.tensor, &top.tensor, &indices.tensor, &sums.tensor};

  Data(Arena& arena, const Case& c, float scale = 8.0f)
      : logits(arena, {c.r, c.v}, 1, scale),
        top(arena, {c.r, c.k}),
        sums(arena, {c.r}),
        indices(arena, {c.r, c.k}) {}
  float& at(int64_t row, int64_t i) { return logits[row * logits.tensor.shape[1] + i]; }
};

MOEPP_OP_TEST(top_logits) {
  for (const Case& c : kCases) {
    if (c.large && on.emulated()) continue;
    for (const float scale : {8.0f, 1e-3f, 1e5f, 3e38f}) {
      on.start(c.name());
      const Data d(on, c, scale);
      on.expect(d.args, &check_top_logits);
      if (c.r > 0) on.expect_rows_alone(d.args, {{0, c.r / 2, c.r - 1}, 'R'});
    }
  }
}

// Few different values, so that ties reach beyond the k-th and what is collected; descending and
// ascending rows; all equal.
MOEPP_OP_TEST(top_logits_of_ties_and_of_sorted_rows) {
  for (const int64_t v : {40, 3000, 20000}) {
    if (v > 3000 && on.emulated()) continue;
    for (const int64_t k : {1, 7, 40}) {
      const Case c = {5, v, k};
      on.start(c.name());
      Data d(on, c);
      for (int64_t i = 0; i < v; i++) {
        d.at(0, i) = std::floor(d.at(0, i));
        d.at(1, i) = static_cast<float>(i);
        d.at(2, i) = static_cast<float>(v - i);
        d.at(3, i) = -2.5f;
        d.at(4, i) = i % 2 == 0 ? 0.0f : -0.0f;  // equal, with different bits
      }
      d.logits.upload();
      on.expect(d.args, &check_top_logits);
    }
  }
}

MOEPP_OP_TEST(top_logits_of_nan_and_infinity) {
  for (const int64_t v : {9, 1000, 2001, 5001}) {
    const Case c = {7, v, 8};
    on.start(c.name());
    Data d(on, c);
    d.at(0, v - 1) = NAN;
    d.at(1, 3) = d.at(1, 7) = NAN;
    d.at(2, 5) = INFINITY;
    d.at(2, 2) = -INFINITY;
    for (int64_t i = 0; i < v; i++) {
      d.at(3, i) = i == v / 2 ? 1.0f : -INFINITY;
      d.at(4, i) = -INFINITY;
      d.at(5, i) = NAN;
    }
    d.logits.upload();
    on.expect(d.args, [&](const TopLogitsArgs& a) -> std::string {
      const int32_t* first = a.top_indices->i32();
      const float* sums = a.exp_sum->f32();
      const bool right = first[0] == v - 1 && first[8] == 3 && first[16] == 5 &&
                         std::isnan(sums[0]) && std::isnan(sums[2]) && sums[3] == 1.0f &&
                         std::isnan(sums[4]) && std::isnan(sums[5]) && sums[6] >= 1.0f;
      return right ? check_top_logits(a) : "a NaN or an infinity is not where it belongs";
    });
  }
}

// Any of the outputs may be absent; the others have the same bits.
MOEPP_OP_TEST(top_logits_writes_what_is_asked) {
  const Data d(on, {2, 100, 5});
  on.run(d.args);
  const auto all_three = on.outputs(d.args);
  for (const int asked : {1, 2, 3, 4, 5, 6}) {
    on.start("outputs " + std::to_string(asked));
    TopLogitsArgs args = d.args;
    if ((asked & 1) == 0) args.top_logits = nullptr;
    if ((asked & 2) == 0) args.top_indices = nullptr;
    if ((asked & 4) == 0) args.exp_sum = nullptr;
    on.poison(d.args);
    on.expect(args, &check_top_logits);
    for (const auto& output : on.outputs(d.args)) {
      bool is_asked = false;
      for (const auto& written : on.outputs(args)) is_asked |= written.name == output.name;
      const auto& expected = *std::find_if(all_three.begin(), all_three.end(),
                                           [&](const auto& o) { return o.name == output.name; });
      on.require(is_asked ? output.bytes == expected.bytes
                          : std::all_of(output.bytes.begin(), output.bytes.end(),
                                        [](unsigned char byte) { return byte == 0xff; }),
                 output.name + " is wrong");
    }
  }
}

// Values and indices of the largest, as greedy and top-k sampling ask for them; then the sum of the
// exponentials too. Rows are as even as a random model's, so that the largest are anywhere.
MOEPP_BENCH(top_logits) {
  for (const bool with_sum : {false, true}) {
    for (const int64_t r : {1, 8, 64}) {
      const Case c = {r, run.sizes.vocabulary, run.sizes.top_logits};
      Data d(run, c);
      if (!with_sum) d.args.exp_sum = nullptr;
      const std::string name = "top_logits " + std::to_string(c.k) + " of " + std::to_string(c.v);
      run.op_row({with_sum ? name + ", with exp_sum" : name,
                  DType::kF32,
                  r,
                  {static_cast<double>(4 * r * c.v), 0.0}},
                 d.args, &check_top_logits);
    }
  }
}

}  // namespace
}  // namespace moepp::test
