#include "bench.h"
#include "op_test.h"
#include "router.h"

namespace moepp::test {

// a . b, of n products, added to what is there; its tolerance becomes the sum of their magnitudes.
static void add_dot(const float* a, const float* b, int64_t n, Bounded* to) {
  for (int64_t i = 0; i < n; i++) {
    to->value += value(a, i) * value(b, i);
    to->tolerance += std::abs(value(a, i) * value(b, i));
  }
}

std::string check_router_logits(const RouterLogitsArgs& args, const Tokens& tokens) {
  const Tensor& z = args.hidden != nullptr ? *args.hidden : *args.x;
  const int64_t e = args.logits->shape[1], h = args.x->shape[1], g = z.shape[1],
                x = args.constant_router != nullptr ? args.constant_router->shape[0] : 0,
                terms = g + (args.residual_map != nullptr ? e : 0);
  for (int64_t t : tokens) {
    std::vector<Bounded> logits(static_cast<size_t>(e)), scores(static_cast<size_t>(x));
    for (int64_t r = 0; r < e; r++) {
      Bounded& logit = logits[static_cast<size_t>(r)];
      add_dot(args.router->f32() + r * g, z.f32() + t * g, g, &logit);
      if (args.residual_map != nullptr)
        add_dot(args.residual_map->f32() + r * e, args.previous_logits->f32() + t * e, e, &logit);
      logit.tolerance = sum_error(terms, logit.tolerance);
    }
    for (int64_t r = 0; r < x; r++) {
      Bounded& score = scores[static_cast<size_t>(r)];
      add_dot(args.constant_router->f32() + r * h, args.x->f32() + t * h, h, &score);
      score.tolerance = sum_error(h, score.tolerance);
    }
    std::string text = at("logits", t, difference(args.logits->f32() + t * e, logits));
    if (text.empty() && x > 0)
      text = at("constant_scores", t, difference(args.constant_scores->f32() + t * x, scores));
    if (!text.empty()) return text;
  }
  return {};
}

namespace {

struct Case {
  int64_t t;
  RouterSizes router;
};

// A GPU of 4 multiprocessors takes tiles of one token below 4, of 4 below 128, then of 8.
constexpr Case kCases[] = {
    {0, {8, 0, 4, 1, false}},    {1, {1, 0, 4, 1, false}},     {3, {60, 0, 9, 2, true}},
    {2, {48, 64, 8, 2, true}},   {7, {37, 5, 7, 2, false}},    {1, {1536, 0, 20, 2, true}},
    {2, {1536, 0, 20, 2, true}}, {5, {1536, 0, 20, 2, true}},  {37, {1536, 0, 20, 2, false}},
    {131, {48, 0, 20, 2, true}}, {129, {37, 0, 5, 1, false}},  {5, {300, 160, 256, 3, true}},
    {6, {100, 0, 3, 0, true}},   {3, {64, 0, 1024, 0, false}}, {70, {300, 160, 256, 3, true}}};

struct Data {
  Floats x, hidden, previous, logits, scores;
  RouterLogitsArgs args;

  Data(Arena& arena, int64_t t, const RouterWeights& weights)
      : x(arena, {t, weights.s.h}, 5),
        hidden(arena, {t, weights.s.g}, 6),
        previous(arena, {t, weights.s.e}, 7),
        logits(arena, {t, weights.s.e}),
        scores(arena, {t, 2 * weights.s.c}),
        args(weights.args(&x.tensor, &hidden.tensor, &previous.tensor, &logits.tensor,
                          &scores.tensor)) {}
};

MOEPP_OP_TEST(router_logits) {
  for (const Case& c : kCases) {
    if (on.emulated() && c.t * c.router.rows() * c.router.h > 1'000'000) continue;
    on.start("T " + std::to_string(c.t) + " H " + std::to_string(c.router.h) + " E " +
             std::to_string(c.router.e));
    const RouterWeights weights(on, c.router);
    const Data d(on, c.t, weights);
    on.expect(d.args, [&](const RouterLogitsArgs& a) { return check_router_logits(a, all(c.t)); });
    if (c.t > 1) on.expect_rows_alone(d.args, {{0, c.t / 2, c.t - 1}});
  }
}

MOEPP_BENCH(router_logits) {
  for (const bench::RouterShape& s : run.sizes.routers()) {
    RouterWeights weights(run, router_of(s));
    for (const int64_t t : run.sizes.step_tokens) {
      const Data d(run, t, weights);
      run.row(
          {"router_logits " + weights.name(),
           DType::kF32,
           t,
           {static_cast<double>(4 * (weights.s.rows() + t) * s.hidden), 0.0},
           weights.operations() * static_cast<double>(t)},
          d.args, [&](const RouterLogitsArgs& a) { return check_router_logits(a, sample(t, 50)); },
          [&](int64_t i) {
            weights.use_copy(i);
            run.kernels().router_logits(d.args, run.device().queue());
          });
    }
  }
}

}  // namespace
}  // namespace moepp::test
