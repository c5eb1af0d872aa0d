#include "bench.h"
#include "op_test.h"
#include "router.h"

namespace moepp::test {

namespace {

constexpr ExpertKind F = ExpertKind::kFfn, C = ExpertKind::kConstant, X = ExpertKind::kCopy,
                     Z = ExpertKind::kZero;

// Softmax over the chosen, with and without the zero experts' weights.
const RouteTopKArgs kPlainGatings[] = {gating(Scores::kSoftmax, true, true, false, 1.0f),
                                       gating(Scores::kSoftmax, true, true, false),
                                       gating(Scores::kSoftmax, true, true, false, 0.7f, 2.0f),
                                       gating(Scores::kSoftmax, true, false, false),
                                       gating(Scores::kSoftmax, true, false, false, 2.5f)};

const RouteCase kPlain[] = {
    {1, {{F, 1}, {C, 1}, {X, 1}, {Z, 1}}, 1},    {1, {{C, 2}, {X, 1}, {Z, 1}}, 2},
    {3, {{F, 1}, {C, 2}, {X, 1}, {Z, 1}}, 2},    {33, {{F, 16}, {C, 2}, {X, 1}, {Z, 1}}, 2},
    {300, {{F, 16}, {C, 2}, {X, 1}, {Z, 1}}, 2}, {40, {{F, 5}, {C, 2}, {X, 1}, {Z, 1}}, 8},
    {17, {{F, 10}, {X, 1}, {Z, 1}}, 3},          {9, {{F, 250}, {C, 4}, {X, 1}, {Z, 1}}, 8},
    {64, {{F, 250}, {C, 4}, {X, 1}, {Z, 1}}, 8}};

// Experts of every kind in many orders, from one to 1024, and 1 to 16 picks.
const RouteCase kOrders[] = {
    {5, {{F, 16}, {C, 2}, {X, 1}, {Z, 1}}, 2},
    {7, {{Z, 3}, {F, 5}, {X, 2}, {C, 1}, {F, 4}, {Z, 1}}, 4},
    {3, {{F, 8}}, 8},
    {4, {{Z, 6}}, 3},
    {2, {{F, 1}}, 1},
    {3, {{F, 512}, {X, 256}}, 12},
    {2, {{F, 1024}}, 16},
    {9, {{F, 128}, {Z, 64}}, 8},
    {6, {{C, 3}, {X, 1}}, 2},
    {9, {{F, 5}, {C, 3}, {F, 100}, {X, 20}, {Z, 64}, {F, 31}, {C, 1}, {Z, 32}}, 16}};

// On a GPU one block up to 64 tokens and 1024 picks, then blocks of 1024 picks.
const RouteCase kMany[] = {
    {0, {{F, 4}, {C, 2}, {X, 1}, {Z, 1}}, 2},
    {270, {{F, 16}, {C, 2}, {X, 1}, {Z, 1}}, 4},
    {130, {{F, 250}, {C, 3}, {Z, 1}}, 8},
    {66, {{F, 300}, {Z, 40}}, 2},
    {90, {{F, 512}, {X, 256}}, 12},
    {67, {{F, 1024}}, 16},
    {70, {{F, 5}, {C, 3}, {F, 100}, {X, 20}, {Z, 64}, {F, 31}, {C, 1}, {Z, 32}}, 16}};

std::string name_of(const RouteCase& c) {
  const RouteTopKArgs& g = c.gating;
  std::string text = "T " + std::to_string(c.t) + " K " + std::to_string(c.k) + " of";
  for (const int32_t count : c.experts.counts) text += " " + std::to_string(count);
  return text + (g.scores == Scores::kSigmoid ? " sigmoid" : " softmax") +
         (g.normalise ? " normalised" : "") + (g.drop_zero ? " drop_zero" : "") +
         (g.masked ? " masked" : "") + (c.biased ? " biased" : "") + " groups " +
         std::to_string(g.top_groups) + "/" + std::to_string(g.groups) + " scale " +
         std::to_string(c.scale);
}

// With each combination of scores, normalisation, zero experts' weights, masks, groups and bias.
// Experts that cannot be grouped have no groups.
std::vector<RouteCase> gating_cases(const RouteCase& shape) {
  std::vector<RouteCase> cases;
  const int32_t experts = shape.experts.experts;
  const int32_t groups = experts % 4 == 0 && experts >= 8   ? 4
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

// Some logits are large. Those of the last token, and biases, are equal: tie after tie.
void make_ties(const RouteCase& c, RouteArrays* d) {
  const int64_t e = c.experts.experts;
  for (int64_t i = 0; i < c.t * e; i += 3) d->logits[i] += 2.0f * c.scale;
  for (int64_t i = 0; c.t > 0 && i < e; i++)
    d->logits[(c.t - 1) * e + i] = i % 2 == 0 ? c.scale : -c.scale;
  fill(d->bias.host(), e, 3, 0.5f);
  for (int64_t i = 0; i + 2 < e; i += 4) d->bias[i + 2] = d->bias[i];
  d->logits.upload(), d->bias.upload();
}

// Entries of token_order past the sorted picks keep the poison.
std::string check_all(const RouteTopKArgs& a) {
  const std::string text = check_route_top_k(a);
  if (!text.empty()) return text;
  const int32_t sorted = a.expert_offsets->i32()[a.expert_offsets->shape[0] - 1];
  const int32_t *order = a.token_order->i32(), *end = order + a.token_order->elements();
  const bool kept = std::all_of(order + sorted, end, [](int32_t entry) { return entry == -1; });
  return kept ? "" : "token_order is written past the sorted picks";
}

// A pick's place depends on all tokens.
void expect_tokens_alone(OpTest& on, const RouteArrays& d, const std::vector<int64_t>& tokens) {
  on.expect_rows_alone(d.args, {tokens, 'T', {"token_order", "expert_rows"}});
}

// The emulation takes tokens alone only where `alone` says so.
void expect_routes(OpTest& on, const RouteCase& c, bool alone = true) {
  on.start(name_of(c));
  RouteArrays d(on, c);
  make_ties(c, &d);
  on.expect(d.args, check_all);
  if (c.t > 1 && (alone || !on.emulated())) expect_tokens_alone(on, d, {0, c.t / 2, c.t - 1});
}

MOEPP_OP_TEST(route_top_k) {
  for (RouteCase c : kPlain) {
    if (on.emulated() && c.t > 40) continue;
    for (const RouteTopKArgs& gating : kPlainGatings) {
      for (const float scale : {1.0f, 1e-4f, 1e4f, 1e30f, 1e-30f}) {
        c.gating = gating, c.scale = scale;
        expect_routes(on, c, scale == 1.0f);
      }
    }
  }
}

// The emulation takes each combination with a third of the experts.
MOEPP_OP_TEST(route_top_k_of_every_kind) {
  int turn = 0;
  for (const RouteCase& shape : kOrders) {
    turn++;  // so that each combination meets both scales
    for (RouteCase& c : gating_cases(shape)) {
      c.scale = turn++ % 2 == 0 ? 1.0f : 1e3f;
      if (!on.emulated() || turn % 3 == 0) expect_routes(on, c);
    }
  }
}

MOEPP_OP_TEST(route_top_k_of_many) {
  for (RouteCase c : kMany) {
    c.gating = kPlainGatings[0];
    expect_routes(on, c);
  }
  RouteCase grouped = {90, {{F, 512}, {X, 256}}, 12};
  grouped.gating = gating(Scores::kSigmoid, true, false, true), grouped.biased = true;
  grouped.gating.groups = 4, grouped.gating.top_groups = 2;
  expect_routes(on, grouped);
}

// All logits equal; the zero expert alone with weight, or the others barely alive. Equal and large
// logits, and constant experts far on either side. One expert for all. Sigmoids that add up to less
// than 1e-20.
MOEPP_OP_TEST(route_top_k_degenerate) {
  std::vector<RouteTopKArgs> gatings(std::begin(kPlainGatings), std::end(kPlainGatings));
  gatings.push_back(gating(Scores::kSigmoid, true, false, false));
  for (const RouteTopKArgs& gating : gatings) {
    for (const int64_t k : {1, 2, 3}) {
      RouteCase c = {6, {{F, 4}, {C, 2}, {X, 1}, {Z, 1}}, k};
      c.gating = gating;
      RouteArrays d(on, c);
      std::fill_n(d.logits.host(), 6 * 8, 0.0f);
      d.logits[8 + 7] = 1000.0f, d.logits[2 * 8 + 7] = 50.0f;
      std::fill_n(d.logits.host() + 3 * 8, 8, 3.5e8f);
      for (int64_t i = 0; i < 8; i++) d.logits[4 * 8 + i] = i < 5 ? -1.0f : 1.0f;
      std::fill_n(d.logits.host() + 5 * 8, 8, -50.0f);
      for (int64_t i = 0; i < 8; i++) d.scores[3 * 4 + i] = i % 2 == 0 ? 300.0f : -300.0f;
      d.logits.upload(), d.scores.upload();
      on.start("degenerate " + name_of(c));
      on.expect(d.args, check_all);
    }
  }
}

// For any logits the picks are different experts, and sorted. A token of NaNs is alone in its NaNs.
// A NaN of a masked expert is none.
std::string check_nan(const RouteTopKArgs& a) {
  const int64_t t = a.logits->shape[0], k = a.expert_indices->shape[1];
  const bool masked = a.masked && a.experts.kind_of(3) != ExpertKind::kFfn;
  for (int64_t i = 0; i < 2 * k; i++) {
    if (std::isnan(a.expert_weights->f32()[i]) != (i < k || !masked))
      return "expert_weights are not NaN where they should be";
  }
  const std::string text = check_sorted_picks(a);
  return text.empty() ? check_gating(a, t - 1) : text;
}

MOEPP_OP_TEST(route_top_k_of_nan_and_infinity) {
  const RouteCase shapes[] = {{6, {{F, 4}, {C, 2}, {X, 1}, {Z, 1}}, 1},
                              {6, {{F, 4}, {C, 2}, {X, 1}, {Z, 1}}, 2},
                              {6, {{F, 4}, {C, 2}, {X, 1}, {Z, 1}}, 8},
                              {6, {{Z, 4}, {F, 28}}, 4}};
  for (const RouteCase& shape : shapes) {
    const int64_t e = shape.experts.experts;
    for (const RouteCase& c : gating_cases(shape)) {
      RouteArrays d(on, c);
      make_ties(c, &d);
      std::fill_n(d.logits.host(), e, NAN);
      d.logits[e + 3] = NAN, d.logits[2 * e + 3] = INFINITY;
      std::fill_n(d.logits.host() + 3 * e, e, -INFINITY);
      d.logits[4 * e] = -INFINITY;
      d.logits.upload();
      on.start("NaN " + name_of(c));
      on.expect(d.args, check_nan);
      if (!on.emulated() || c.k == 8) expect_tokens_alone(on, d, {1, 4, 5});
    }
  }
}

// Bound by neither bytes nor operations: the row shows a time.
MOEPP_BENCH(route_top_k) {
  for (const bench::RouterShape& s : run.sizes.routers()) {
    for (const int64_t t : run.sizes.step_tokens) {
      const RouteArrays d(run, {s, t});
      run.op_row({"route_top_k " + std::to_string(s.experts()) + ", top " + std::to_string(s.top_k),
                  DType::kF32,
                  t,
                  {static_cast<double>(4 * t * (s.experts() + 2 * s.constants)),
                   static_cast<double>(4 * t * (4 * s.top_k + s.constants + 1))}},
                 d.args, &check_route_top_k);
    }
  }
}

}  // namespace
}  // namespace moepp::test
