#include "products.h"
#include "router.h"

namespace moepp::test {

namespace {

struct Case {
  int64_t t, inputs, h, e, c, k;
  bool residual = true, sum = true;

  std::string name() const {
    return "T " + std::to_string(t) + " I " + std::to_string(inputs) + " H " + std::to_string(h) +
           " E " + std::to_string(e) + " C " + std::to_string(c) + " K " + std::to_string(k);
  }
  RouterSizes router() const { return {h, 0, e, c, residual}; }
  RouteCase route() const {
    RouteCase route = {t,
                       {{ExpertKind::kFfn, e - c - 2},
                        {ExpertKind::kConstant, c},
                        {ExpertKind::kCopy, 1},
                        {ExpertKind::kZero, 1}},
                       k};
    route.gating = gating(Scores::kSoftmax, true, true, false, 0.9f, 2.0f);
    return route;
  }
};

// One token. Then those that a GPU does in two kernels: rows of x or of the output that are no
// fours, a large router, several tokens.
constexpr Case kCases[] = {{1, 64, 60, 20, 2, 2},   {1, 96, 260, 9, 2, 4, false},
                           {1, 32, 36, 200, 3, 8},  {1, 60, 64, 6, 1, 1, true, false},
                           {1, 64, 132, 40, 2, 32}, {1, 37, 64, 20, 2, 2},
                           {1, 64, 37, 20, 2, 2},   {1, 64, 420, 200, 0, 8},
                           {1, 64, 40, 300, 2, 8},  {5, 64, 60, 20, 2, 2}};

struct Data {
  Floats x, delta, residual, norm_weight, previous, sum, out;
  RouteArrays route;
  LinearNormRouteTopKArgs args = {};

  Data(Arena& arena, const RouteCase& c, const RouterWeights& router, const Weight& weight,
       bool may_round_x, int64_t inputs)
      : x(arena, {c.t, inputs}, 3),
        delta(arena, {c.t, router.s.h}),
        residual(arena, {c.t, router.s.h}, 5),
        norm_weight(arena, {router.s.h}, 1),
        previous(arena, {c.t, router.s.e}, 7),
        sum(arena, {c.t, router.s.h}),
        out(arena, {c.t, router.s.h}),
        route(arena, c) {
    args.linear = {&x.tensor, &weight.tensor, &delta.tensor, Activation::kNone, may_round_x};
    args.rest.norm = {&residual.tensor, &delta.tensor, &norm_weight.tensor,
                      &sum.tensor,      &out.tensor,   1e-6f};
    args.rest.router = router.args(&out.tensor, nullptr, &previous.tensor, &route.logits.tensor,
                                   &route.scores.tensor);
    args.rest.route = route.args;
  }
};

std::string check(const LinearNormRouteTopKArgs& a, Inputs inputs, int64_t columns) {
  const int64_t t = a.linear.x->shape[0];
  const std::string text =
      check_linear(a.linear, sample(t, 3), sample(a.linear.out->shape[1], columns), inputs);
  return text.empty() ? check_norm_route_top_k(a.rest, sample(t, 9)) : text;
}

void expect_as_apart(OpTest& on, const Case& c, const GemmKind& kind) {
  on.start(kind.name() + " " + c.name());
  const RouterWeights router(on, c.router());
  const Weight weight(on, kind.dtype, Layout::kMatrix, {c.h, c.inputs}, 2, 1, 1.0f);
  Data d(on, c.route(), router, weight, kind.may_round_x, c.inputs);
  if (!c.sum) d.args.rest.norm.sum = nullptr;
  const Inputs inputs = inputs_of(on, chosen_way(on, d.args.linear), kind, c.inputs);
  on.poison(d.args);
  on.run(d.args.linear), on.run(d.args.rest);
  const auto apart = on.outputs(d.args);
  on.expect(d.args, [&](const LinearNormRouteTopKArgs& a) {
    on.expect_same(apart, on.outputs(d.args), "the two ops give others");
    return check(a, inputs, 40);
  });
}

// The op gives the bits of the two ops.
MOEPP_OP_TEST(linear_norm_route_top_k) {
  if (on.device().kernels().linear_norm_route_top_k == nullptr) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kCases, kind.dtype)) expect_as_apart(on, c, kind);
  }
}

// Attention's output projection as each layer of a model has it.
MOEPP_BENCH(linear_norm_route_top_k_bf16) {
  if (run.kernels().linear_norm_route_top_k == nullptr) return;
  const bench::RouterShape s = run.sizes.router();
  const int64_t inputs = run.sizes.heads * run.sizes.head_dim;
  RouterWeights router(run, router_of(s));
  const Weight weight(run, DType::kBf16, Layout::kMatrix, {s.hidden, inputs}, 2, s.copies);
  for (const int64_t t : {1, 8}) {
    Data d(run, {s, t}, router, weight, false, inputs);
    round_to_bf16(d.x);
    Tensor one = weight.tensor;
    d.args.linear.weight = &one;
    run.row(
        {"linear " + std::to_string(inputs) + " + norm_route_top_k " + router.name() + ", top " +
             std::to_string(s.top_k),
         DType::kBf16,
         t,
         {static_cast<double>(weight.bytes() + 4 * (router.s.rows() + 2 * t) * s.hidden),
          static_cast<double>(12 * t * s.hidden)}},
        d.args, [&](const LinearNormRouteTopKArgs& a) { return check(a, gemm_inputs(run), 41); },
        [&](int64_t i) {
          one.data = weight.copy(i);
          router.use_copy(i);
          run.kernels().linear_norm_route_top_k(d.args, run.device().queue());
        });
  }
}

}  // namespace
}  // namespace moepp::test
