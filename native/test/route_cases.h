// The cases of route_top_k, which tests of both devices run: kinds of gating over experts of every
// kind and order.
#pragma once

#include <array>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "reference.h"
#include "test.h"

namespace moepp::test {

struct RouteCase {
  int64_t tokens;
  std::vector<std::array<int, 2>> runs;  // kind, count
  int64_t k;
  RouteTopKArgs gating = {};  // attributes alone
  bool biased = false;
  float scale = 1.0f;  // of the logits
};

inline ExpertRuns expert_runs(const std::vector<std::array<int, 2>>& runs) {
  ExpertRuns experts;
  for (const auto& [kind, count] : runs)
    EXPECT(experts.append(static_cast<ExpertKind>(kind), count));
  return experts;
}

// FFN, constant, copy and zero experts in this order.
inline ExpertRuns expert_runs(int64_t ffn, int64_t constants, int64_t copies, int64_t zeros) {
  return expert_runs(std::vector<std::array<int, 2>>{{0, static_cast<int>(ffn)},
                                                     {1, static_cast<int>(constants)},
                                                     {2, static_cast<int>(copies)},
                                                     {3, static_cast<int>(zeros)}});
}

inline std::string label_of(const RouteCase& c) {
  const RouteTopKArgs& g = c.gating;
  std::string text = "T " + std::to_string(c.tokens) + " K " + std::to_string(c.k) + " experts";
  for (const auto& [kind, count] : c.runs)
    text += " " + std::to_string(count) + "x" + std::to_string(kind);
  return text + (g.scores == Scores::kSigmoid ? " sigmoid" : " softmax") +
         (g.normalise ? " normalised" : "") + (g.drop_zero ? " drop_zero" : "") +
         (g.masked ? " masked" : "") + (c.biased ? " biased" : "") + " groups " +
         std::to_string(g.top_groups) + "/" + std::to_string(g.groups) + " scale " +
         std::to_string(c.scale);
}

// One op's arrays. Memory makes them: floats(n) and ints(n), not written yet.
template <class Memory>
struct RouteData {
  const RouteCase& c;
  const ExpertRuns experts;
  const int64_t t, e, k, constants, ffn;
  typename Memory::Floats logits, scores, bias, weights, coefficients;
  typename Memory::Ints indices, offsets, order, rows;

  explicit RouteData(const RouteCase& c)
      : c(c),
        experts(expert_runs(c.runs)),
        t(c.tokens),
        e(experts.experts),
        k(c.k),
        constants(experts.count(ExpertKind::kConstant)),
        ffn(experts.count(ExpertKind::kFfn)),
        logits(Memory::floats(t * e)),
        scores(Memory::floats(t * 2 * constants)),
        bias(Memory::floats(e)),
        weights(Memory::floats(t * k)),
        coefficients(Memory::floats(t * (constants + 1))),
        indices(Memory::ints(t * k)),
        offsets(Memory::ints(ffn + 1)),
        order(Memory::ints(t * k)),
        rows(Memory::ints(t * k)) {
    fill(logits.data(), t * e, 1, c.scale);
    fill(scores.data(), t * 2 * constants, 2, 3.0f);
    fill(bias.data(), e, 3, 0.5f);
    for (int64_t i = 0; i < t * e; i += 3) logits.data()[i] += 2.0f * c.scale;
    // Equal logits and equal biases: tie after tie.
    for (int64_t i = 0; i < e; i++)
      logits.data()[(t - 1) * e + i] = i % 2 == 0 ? c.scale : -c.scale;
    for (int64_t i = 0; i + 2 < e; i += 4) bias.data()[i + 2] = bias.data()[i];
  }

  // Calls body(args) for the tokens [first, first + count).
  template <class Body>
  void with_args(int64_t first, int64_t count, const Body& body) {
    const auto of = [&](auto& values, int64_t columns) {
      const DType dtype =
          std::is_same_v<decltype(values.data()), int32_t*> ? DType::kI32 : DType::kF32;
      return tensor(values.data() + first * columns, dtype, {count, columns});
    };
    const Tensor lt = of(logits, e), st = of(scores, 2 * constants);
    const Tensor bt = tensor(bias.data(), DType::kF32, {e});
    Tensor it = of(indices, k), wt = of(weights, k), ct = of(coefficients, constants + 1);
    Tensor ot = tensor(offsets.data(), DType::kI32, {ffn + 1}), tt = of(order, k), rt = of(rows, k);
    RouteTopKArgs args = c.gating;
    args.logits = &lt, args.constant_scores = constants > 0 ? &st : nullptr;
    args.selection_bias = c.biased ? &bt : nullptr;
    args.expert_indices = &it, args.expert_weights = &wt, args.coefficients = &ct;
    args.expert_offsets = &ot, args.token_order = &tt, args.expert_rows = &rt;
    args.experts = experts;
    body(args);
  }

  // The bits of what each token gets.
  std::vector<char> bits() const {
    std::vector<char> all;
    const auto add = [&](const auto& values, int64_t n) {
      const auto* begin = reinterpret_cast<const char*>(values.data());
      all.insert(all.end(), begin, begin + n * 4);
    };
    add(weights, t * k), add(coefficients, t * (constants + 1)), add(indices, t * k);
    return all;
  }
};

// Runs the case by run(args), all tokens and some alone, which must get the same bits.
template <class Memory, class Run>
void expect_routes(const RouteCase& c, const std::string& where, const Run& run) {
  RouteData<Memory> d(c);
  const std::string label = where + " " + label_of(c);
  const auto checked = [&](const RouteTopKArgs& args) {
    run(args);
    const std::string wrong = check_route_top_k(args);
    EXPECT_MESSAGE(wrong.empty(), label + ": " + wrong);
  };
  d.with_args(0, c.tokens, checked);
  for (int64_t i = d.offsets.data()[d.ffn]; i < c.tokens * c.k; i++) {
    EXPECT_MESSAGE(d.order.data()[i] == Memory::kUnwrittenInt,
                   label + ": token_order written past the picks");
  }
  const std::vector<char> together = d.bits();
  for (int64_t row : {int64_t{0}, c.tokens / 2, c.tokens - 1}) d.with_args(row, 1, checked);
  EXPECT_MESSAGE(d.bits() == together, label + ": a token alone differs");
  Memory::expect_intact(label, d);
}

inline RouteTopKArgs gating(Scores scores, bool normalise, bool drop_zero, bool masked,
                            float norm_std = 0.0f, float input_scale = 1.0f,
                            float weight_scale = 1.0f) {
  RouteTopKArgs args = {};
  args.scores = scores;
  args.normalise = normalise, args.drop_zero = drop_zero, args.masked = masked;
  args.norm_std = norm_std, args.input_scale = input_scale, args.weight_scale = weight_scale;
  return args;
}

// Softmax over the chosen, with and without the zero experts' weights.
inline std::vector<RouteTopKArgs> plain_gatings() {
  return {gating(Scores::kSoftmax, true, true, false, 1.0f),
          gating(Scores::kSoftmax, true, true, false),
          gating(Scores::kSoftmax, true, true, false, 0.7f, 2.0f),
          gating(Scores::kSoftmax, true, false, false),
          gating(Scores::kSoftmax, true, false, false, 2.5f)};
}

// Every combination of scores, normalisation, zero experts' weights, masks, groups and bias. A
// shape that cannot be grouped has no groups.
inline std::vector<RouteCase> gating_cases(const RouteCase& shape) {
  std::vector<RouteCase> cases;
  const int experts = expert_runs(shape.runs).experts;
  const int groups = experts % 4 == 0 && experts >= 8   ? 4
                     : experts % 2 == 0 && experts >= 4 ? 2
                                                        : 1;
  for (unsigned flags = 0; flags < 64; flags++) {
    if ((flags & 16) != 0 && groups == 1) continue;
    RouteCase c = shape;
    c.gating =
        gating((flags & 1) != 0 ? Scores::kSigmoid : Scores::kSoftmax, (flags & 2) != 0,
               (flags & 4) != 0, (flags & 8) != 0, flags % 3 == 0 && (flags & 8) == 0 ? 0.7f : 0.0f,
               flags % 5 == 0 ? 2.0f : 1.0f, flags % 7 == 0 ? 6.0f : 1.0f);
    if ((flags & 16) != 0) c.gating.groups = groups, c.gating.top_groups = (groups + 1) / 2;
    c.biased = (flags & 32) != 0;
    cases.push_back(c);
  }
  return cases;
}

// Experts of every kind in many orders, from one to 1024, and 1 to 16 picks.
inline std::vector<RouteCase> expert_shapes() {
  return {{5, {{0, 16}, {1, 2}, {2, 1}, {3, 1}}, 2},
          {7, {{3, 3}, {0, 5}, {2, 2}, {1, 1}, {0, 4}, {3, 1}}, 4},
          {3, {{0, 8}}, 8},
          {4, {{3, 6}}, 3},
          {2, {{0, 1}}, 1},
          {3, {{0, 512}, {2, 256}}, 12},
          {2, {{0, 1024}}, 16},
          {9, {{0, 128}, {3, 64}}, 8},
          {6, {{1, 3}, {2, 1}}, 2},
          {70, {{0, 5}, {1, 3}, {0, 100}, {2, 20}, {3, 64}, {0, 31}, {1, 1}, {3, 32}}, 16}};
}

// A step of 6 tokens of 8 experts (FFN 4, constant 2, copy, zero), some of them degenerate. All
// logits equal; the zero expert alone with weight; constant experts far on either side; one expert
// for all.
template <class Memory, class Run>
void expect_degenerate_routes(const std::string& where, const Run& run) {
  for (const RouteTopKArgs& g : plain_gatings()) {
    for (const int64_t k : {1, 2, 3}) {
      const RouteCase c = {6, {{0, 4}, {1, 2}, {2, 1}, {3, 1}}, k, g};
      RouteData<Memory> d(c);
      float* logits = d.logits.data();
      for (int64_t i = 0; i < 6 * 8; i++) logits[i] = 0.0f;
      logits[8 + 7] = 1000.0f;    // the zero expert
      logits[2 * 8 + 7] = 50.0f;  // the zero expert, the others barely alive
      for (int64_t i = 0; i < 8; i++) logits[3 * 8 + i] = 3.5e8f;  // equal and large
      for (int64_t i = 0; i < 8; i++) logits[4 * 8 + i] = i < 5 ? -1.0f : 1.0f;
      for (int64_t i = 0; i < 8; i++) d.scores.data()[3 * 4 + i] = i % 2 == 0 ? 300.0f : -300.0f;
      d.with_args(0, 6, [&](const RouteTopKArgs& args) {
        run(args);
        const std::string wrong = check_route_top_k(args);
        EXPECT_MESSAGE(wrong.empty(), where + " " + label_of(c) + ": " + wrong);
      });
    }
  }
}

// For any logits, indices are valid and distinct, the sorted picks consistent, and a token of NaNs
// is alone in its NaNs. A NaN of a masked expert is none.
template <class Memory, class Run>
void expect_routes_of_nan_and_infinity(const RouteCase& shape, const std::string& where,
                                       const Run& run) {
  for (const RouteCase& c : gating_cases(shape)) {
    const std::string label = where + " " + label_of(c);
    RouteData<Memory> d(c);
    const int64_t e = d.e;
    float* logits = d.logits.data();
    for (int64_t i = 0; i < e; i++) logits[i] = NAN;
    logits[e + 3] = NAN;
    logits[2 * e + 3] = INFINITY;
    for (int64_t i = 0; i < e; i++) logits[3 * e + i] = -INFINITY;
    logits[4 * e] = -INFINITY;
    d.with_args(0, c.tokens, run);
    for (int64_t i = 0; i < c.tokens; i++) {
      const int32_t* picks = d.indices.data() + i * c.k;
      const std::set<int32_t> set(picks, picks + c.k);
      EXPECT_MESSAGE(static_cast<int64_t>(set.size()) == c.k && *set.begin() >= 0 &&
                         *set.rbegin() < static_cast<int32_t>(e),
                     label);
    }
    EXPECT_MESSAGE(d.offsets.data()[0] == 0 && d.offsets.data()[d.ffn] <= c.tokens * c.k, label);
    for (int64_t i = 0; i < 2 * c.k; i++) {
      const bool masked = c.gating.masked && d.experts.kind_of(3) != ExpertKind::kFfn;
      EXPECT_MESSAGE(std::isnan(d.weights.data()[i]) == (i < c.k || !masked), label + ": NaN");
    }
    const std::vector<char> before = d.bits();
    d.with_args(c.tokens - 1, 1, [&](const RouteTopKArgs& args) {
      run(args);
      const std::string wrong = check_route_top_k(args);
      EXPECT_MESSAGE(wrong.empty(), label + ", the token beside them: " + wrong);
    });
    EXPECT_MESSAGE(d.bits() == before, label + ": a token alone differs");
  }
}

}  // namespace moepp::test
