#include "backends.h"
#include "route_cases.h"

namespace moepp::test {

struct NormRouteCase {
  int64_t t, h, e, c, k;  // without constant experts there are no others of no computation
  bool residual, sum;
  bool delta = true;
  int64_t ffn() const { return c > 0 ? e - c - 2 : e; }
};

// The op's outputs, for the tokens [first, first + count) of the inputs.
struct NormRouteOutputs {
  Guarded<float> sum, out, logits, scores, weights, coefficients;
  Guarded<int32_t> indices, offsets, order, rows;

  NormRouteOutputs(const NormRouteCase& c, int64_t count)
      : sum(count * c.h),
        out(count * c.h),
        logits(count * c.e),
        scores(count * 2 * c.c),
        weights(count * c.k),
        coefficients(count * (c.c + 1)),
        indices(count * c.k),
        offsets(c.ffn() + 1),
        order(count * c.k),
        rows(count * c.k) {}

  // For each float output, then each of integers.
  template <class Body>
  void each(const Body& body) {
    for (Guarded<float>* values : {&sum, &out, &logits, &scores, &weights, &coefficients})
      body(*values);
    for (Guarded<int32_t>* values : {&indices, &offsets, &order, &rows}) body(*values);
  }
};

struct NormRouteInputs {
  Guarded<float> x, delta, previous, weight, router, map, constant;

  explicit NormRouteInputs(const NormRouteCase& c)
      : x(filled(c.t * c.h, 1)),
        delta(filled(c.t * c.h, 2)),
        previous(filled(c.t * c.e, 3)),
        weight(filled(c.h, 4)),
        router(filled(c.e * c.h, 5)),
        map(filled(c.e * c.e, 6)),
        constant(filled(2 * c.c * c.h, 7)) {}
};

// Runs body(args) for the tokens [first, first + count).
template <class Body>
static void with_args(const NormRouteCase& c, NormRouteInputs& in, NormRouteOutputs& outputs,
                      int64_t first, int64_t count, const Body& body) {
  const Tensor x = rows_of(whole(in.x, {c.t, c.h}), first, count),
               delta = rows_of(whole(in.delta, {c.t, c.h}), first, count);
  const Tensor previous = rows_of(whole(in.previous, {c.t, c.e}), first, count),
               weight = whole(in.weight, {c.h});
  const Tensor router = whole(in.router, {c.e, c.h}), map = whole(in.map, {c.e, c.e});
  const Tensor constant = whole(in.constant, {2 * c.c, c.h});
  Tensor sum = whole(outputs.sum, {count, c.h}), out = whole(outputs.out, {count, c.h});
  Tensor logits = whole(outputs.logits, {count, c.e}),
         scores = whole(outputs.scores, {count, 2 * c.c});
  Tensor indices = whole(outputs.indices, {count, c.k}),
         weights = whole(outputs.weights, {count, c.k});
  Tensor coefficients = whole(outputs.coefficients, {count, c.c + 1}),
         offsets = whole(outputs.offsets, {c.ffn() + 1});
  Tensor order = whole(outputs.order, {count, c.k}), rows = whole(outputs.rows, {count, c.k});
  NormRouteTopKArgs args = {};
  args.norm = {&x, c.delta ? &delta : nullptr, &weight, c.sum ? &sum : nullptr, &out, 1e-6f};
  args.router.x = &out, args.router.router = &router, args.router.logits = &logits;
  if (c.residual) args.router.previous_logits = &previous, args.router.residual_map = &map;
  if (c.c > 0) args.router.constant_router = &constant, args.router.constant_scores = &scores;
  args.route = gating(Scores::kSoftmax, true, true, false, 0.9f, 2.0f);
  args.route.logits = &logits, args.route.constant_scores = args.router.constant_scores;
  args.route.expert_indices = &indices, args.route.expert_weights = &weights;
  args.route.coefficients = &coefficients, args.route.expert_offsets = &offsets;
  args.route.token_order = &order, args.route.expert_rows = &rows;
  args.route.experts = c.c > 0 ? expert_runs(c.ffn(), c.c, 1, 1) : expert_runs(c.ffn(), 0, 0, 0);
  body(args);
}

// The fused op gives the bits of the three ops, and a token alone those that it has among others.
MOEPP_TEST(norm_route_top_k) {
  const NormRouteCase cases[] = {
      {1, 1, 4, 1, 1, false, true},          {3, 60, 9, 2, 2, true, true},
      {7, 37, 7, 2, 3, false, false},        {1, 1536, 20, 2, 2, true, true},
      {5, 1536, 20, 2, 2, true, true},       {70, 300, 20, 2, 2, true, true},
      {67, 100, 12, 3, 8, true, false},      {33, 48, 256, 2, 4, true, true},
      {34, 20, 5, 0, 2, false, true},        {2, 96, 700, 0, 12, false, true},
      {37, 40, 9, 0, 3, false, false, false}};
  for_each_backend([&](const Backend& backend) {
    for (const NormRouteCase& c : cases) {
      const std::string label =
          backend.name + " T " + std::to_string(c.t) + " H " + std::to_string(c.h);
      NormRouteInputs in(c);
      NormRouteOutputs fused(c, c.t), apart(c, c.t);
      with_args(c, in, fused, 0, c.t, [&](const NormRouteTopKArgs& args) {
        backend.isa.kernels->norm_route_top_k(args, backend.pool);
        expect_no_difference(label, check_norm_route_top_k(args, all(c.t)));
      });
      with_args(c, in, apart, 0, c.t, [&](const NormRouteTopKArgs& args) {
        backend.isa.kernels->rms_norm(args.norm, backend.pool);
        backend.isa.kernels->router_logits(args.router, backend.pool);
        backend.isa.kernels->route_top_k(args.route, backend.pool);
      });
      fused.each([&](const auto& values) { expect_intact(label, values); });
      const auto same = [&](const auto& a, const auto& b, int64_t from, int64_t n) {
        EXPECT_MESSAGE(same_bits(a.data(), b.data() + from, static_cast<size_t>(n) * 4), label);
      };
      if (c.sum) same(fused.sum, apart.sum, 0, c.t * c.h);
      same(fused.out, apart.out, 0, c.t * c.h);
      same(fused.logits, apart.logits, 0, c.t * c.e);
      same(fused.weights, apart.weights, 0, c.t * c.k);
      same(fused.coefficients, apart.coefficients, 0, c.t * (c.c + 1));
      same(fused.indices, apart.indices, 0, c.t * c.k);
      same(fused.rows, apart.rows, 0, c.t * c.k);
      same(fused.offsets, apart.offsets, 0, c.ffn() + 1);
      same(fused.order, apart.order, 0, apart.offsets[c.ffn()]);
      for (int64_t t : {int64_t{0}, c.t / 2, c.t - 1}) {
        NormRouteOutputs alone(c, 1);
        with_args(c, in, alone, t, 1, [&](const NormRouteTopKArgs& args) {
          backend.isa.kernels->norm_route_top_k(args, backend.pool);
        });
        same(alone.out, fused.out, t * c.h, c.h);
        same(alone.logits, fused.logits, t * c.e, c.e);
        same(alone.scores, fused.scores, t * 2 * c.c, 2 * c.c);
        same(alone.indices, fused.indices, t * c.k, c.k);
        same(alone.weights, fused.weights, t * c.k, c.k);
        same(alone.coefficients, fused.coefficients, t * (c.c + 1), c.c + 1);
      }
    }
  });
}

}  // namespace moepp::test
