#include "bench.h"
#include "op_test.h"
#include "router.h"

namespace moepp::test {

std::string check_norm_route_top_k(const NormRouteTopKArgs& args, const Tokens& tokens) {
  std::string text = check_rms_norm(args.norm, tokens);
  if (text.empty()) text = check_router_logits(args.router, tokens);
  return text.empty() ? check_route_top_k(args.route) : text;
}

namespace {

struct Case {
  int64_t t, h, e, c, k;  // without constant experts there are no others of no computation
  bool residual, sum;
  bool delta = true;

  std::string name() const {
    return "T " + std::to_string(t) + " H " + std::to_string(h) + " E " + std::to_string(e);
  }
  RouterSizes router() const { return {h, 0, e, c, residual}; }
  RouteCase route() const {
    const int64_t others = c > 0 ? 1 : 0;
    RouteCase route = {t,
                       {{ExpertKind::kFfn, e - c - 2 * others},
                        {ExpertKind::kConstant, c},
                        {ExpertKind::kCopy, others},
                        {ExpertKind::kZero, others}},
                       k};
    route.gating = gating(Scores::kSoftmax, true, true, false, 0.9f, 2.0f);
    return route;
  }
};

// On a GPU of 4 multiprocessors, tiles of more than 64 tokens are of 8; of 4 or 1 where the rows
// are long. Up to 64 the last block sorts. From two threads on, a CPU takes up to 16 tokens by the
// three ops.
constexpr Case kCases[] = {
    {1, 1, 4, 1, 1, false, true},           {3, 60, 9, 2, 2, true, true},
    {7, 37, 7, 2, 3, false, false},         {1, 1536, 20, 2, 2, true, true},
    {8, 1536, 20, 2, 2, true, true},        {64, 48, 20, 2, 8, true, true},
    {65, 60, 20, 2, 2, true, false},        {131, 37, 12, 3, 2, false, true},
    {66, 2000, 9, 2, 2, true, true},        {66, 3200, 5, 1, 2, false, true},
    {67, 24, 6, 1, 2, true, true},          {67, 100, 12, 3, 8, true, false},
    {5, 100, 256, 4, 8, true, true},        {6, 20, 5, 0, 2, true, true},
    {64, 16, 20, 2, 16, false, true},       {2, 96, 700, 0, 12, false, true},
    {2, 800, 256, 0, 8, false, true},       {5, 36, 9, 0, 3, false, false, false},
    {37, 40, 9, 0, 3, false, false, false}, {33, 48, 256, 2, 4, true, true}};

struct Data {
  Floats x, delta, norm_weight, previous, sum, out;
  RouteArrays route;
  NormRouteTopKArgs args = {};

  Data(Arena& arena, const RouteCase& c, const RouterWeights& weights)
      : x(arena, {c.t, weights.s.h}, 5),
        delta(arena, {c.t, weights.s.h}, 6),
        norm_weight(arena, {weights.s.h}, 1),
        previous(arena, {c.t, weights.s.e}, 7),
        sum(arena, {c.t, weights.s.h}),
        out(arena, {c.t, weights.s.h}),
        route(arena, c) {
    args.norm = {&x.tensor, &delta.tensor, &norm_weight.tensor, &sum.tensor, &out.tensor, 1e-6f};
    args.router = weights.args(&out.tensor, nullptr, &previous.tensor, &route.logits.tensor,
                               &route.scores.tensor);
    args.route = route.args;
  }
};

void expect_as_apart(OpTest& on, const Case& c) {
  on.start(c.name());
  const RouterWeights weights(on, c.router());
  Data d(on, c.route(), weights);
  if (!c.delta) d.args.norm.delta = nullptr;
  if (!c.sum) d.args.norm.sum = nullptr;
  on.run(d.args.norm), on.run(d.args.router), on.run(d.args.route);
  const auto apart = on.outputs(d.args);
  on.expect(d.args, [&](const NormRouteTopKArgs& a) {
    on.expect_same(apart, on.outputs(d.args), "the three ops give others");
    return check_norm_route_top_k(a, all(c.t));
  });
  const auto join = [](NormRouteTopKArgs& a, int64_t) {
    a.router.x = a.norm.out, a.route.logits = a.router.logits;
    a.route.constant_scores = a.router.constant_scores;
  };
  const std::vector<int64_t> some = {c.t / 2}, more = {0, c.t / 2, c.t - 1};
  if (c.t > 1) {
    on.expect_rows_alone(d.args, {on.emulated() ? some : more, 'T', {"token_order", "expert_rows"}},
                         join);
  }
}

// The op gives the bits of the three ops, and a token alone those that it has among others.
MOEPP_OP_TEST(norm_route_top_k) {
  for (const Case& c : on.cases(kCases, DType::kF32)) {
    if (!on.emulated() || c.t * c.e < 4096) expect_as_apart(on, c);
  }
}

MOEPP_BENCH(norm_route_top_k) {
  for (const bench::RouterShape& s : run.sizes.routers()) {
    RouterWeights weights(run, router_of(s));
    for (const int64_t t : run.sizes.step_tokens) {
      const Data d(run, {s, t}, weights);
      run.row(
          {"norm_route_top_k " + weights.name() + ", top " + std::to_string(s.top_k),
           DType::kF32,
           t,
           {static_cast<double>(4 * (weights.s.rows() + 2 * t) * s.hidden),
            static_cast<double>(8 * t * s.hidden)},
           weights.operations() * static_cast<double>(t)},
          d.args,
          [&](const NormRouteTopKArgs& a) { return check_norm_route_top_k(a, sample(t, 50)); },
          [&](int64_t i) {
            weights.use_copy(i);
            run.kernels().norm_route_top_k(d.args, run.device().queue());
          });
    }
  }
}

}  // namespace
}  // namespace moepp::test
