#include "kernel_test.h"
#include "route_cases.h"

namespace moepp::simt_test {

struct NormRouteCase {
  int64_t t, h, e, c, k;  // without constant experts there are no others of no computation
  bool residual, sum;
  bool delta = true;
  int64_t ffn() const { return c > 0 ? e - c - 2 : e; }
};

struct NormRouteInputs {
  Shared<float> x, delta, previous, weight, router, map, constant;

  explicit NormRouteInputs(const NormRouteCase& c)
      : x(filled(c.t * c.h, 1)),
        delta(filled(c.t * c.h, 2)),
        previous(filled(c.t * c.e, 3)),
        weight(filled(c.h, 4)),
        router(filled(c.e * c.h, 5)),
        map(filled(c.e * c.e, 6)),
        constant(filled(2 * c.c * c.h, 7)) {}
};

struct NormRouteOutputs {
  Shared<float> sum, out, logits, scores, weights, coefficients;
  Shared<int32_t> indices, offsets, order, rows;

  NormRouteOutputs(const NormRouteCase& c, int64_t count)
      : sum(unwritten(count * c.h)),
        out(unwritten(count * c.h)),
        logits(unwritten(count * c.e)),
        scores(unwritten(count * 2 * c.c)),
        weights(unwritten(count * c.k)),
        coefficients(unwritten(count * (c.c + 1))),
        indices(static_cast<size_t>(count * c.k), -9),
        offsets(static_cast<size_t>(c.ffn() + 1), -9),
        order(static_cast<size_t>(count * c.k), -9),
        rows(static_cast<size_t>(count * c.k), -9) {}
};

// Calls body(args) for the tokens [first, first + count).
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

// Against the reference; with and without counters the same bits, which are those of the three ops
// and of each token alone.
static void expect_norm_route(const NormRouteCase& c) {
  const std::string label =
      "T " + std::to_string(c.t) + " H " + std::to_string(c.h) + " E " + std::to_string(c.e);
  NormRouteInputs in(c);
  NormRouteOutputs fused(c, c.t), apart(c, c.t), uncounted(c, c.t);
  Shared<unsigned> counters(cuda::CudaQueue::kCounters, 0u);
  const int capability = newest_capability();
  cuda::CudaQueue queue(nullptr, kMultiprocessors, capability),
      bare(nullptr, kMultiprocessors, capability);
  queue.set_counters(counters.device());
  with_args(c, in, fused, 0, c.t, [&](const NormRouteTopKArgs& args) {
    run_op(cuda::norm_route_top_k, args, queue, label);
    expect_no_difference(label, check_norm_route_top_k(args, all(c.t)));
  });
  for (size_t i = 0; i < counters.size(); i++)
    EXPECT_MESSAGE(counters[i] == 0, label + ": a counter is left");
  with_args(c, in, apart, 0, c.t, [&](const NormRouteTopKArgs& args) {
    run_op(cuda::rms_norm, args.norm, bare, label);
    run_op(cuda::router_logits, args.router, bare, label);
    run_op(cuda::route_top_k, args.route, bare, label);
  });
  with_args(c, in, uncounted, 0, c.t, [&](const NormRouteTopKArgs& args) {
    run_op(cuda::norm_route_top_k, args, bare, label);
  });
  for (const NormRouteOutputs* other : {&apart, &uncounted}) {
    EXPECT_MESSAGE(!c.sum || same_rows(fused.sum, other->sum), label);
    EXPECT_MESSAGE(same_rows(fused.out, other->out) && same_rows(fused.logits, other->logits),
                   label);
    EXPECT_MESSAGE(same_rows(fused.scores, other->scores) &&
                       same_rows(fused.coefficients, other->coefficients),
                   label);
    EXPECT_MESSAGE(
        same_rows(fused.weights, other->weights) && same_rows(fused.indices, other->indices),
        label);
    EXPECT_MESSAGE(same_rows(fused.offsets, other->offsets) && same_rows(fused.rows, other->rows),
                   label);
    EXPECT_MESSAGE(same_rows(fused.order, other->order), label);
  }
  NormRouteOutputs alone(c, 1);
  const int64_t t = c.t / 2;
  with_args(c, in, alone, t, 1, [&](const NormRouteTopKArgs& args) {
    run_op(cuda::norm_route_top_k, args, queue, label);
  });
  const auto same = [&](const auto& a, const auto& b, int64_t n) {
    EXPECT_MESSAGE(same_bits(a.data(), b.data() + t * n, static_cast<size_t>(n) * 4),
                   label + ": a token alone differs");
  };
  same(alone.out, fused.out, c.h);
  same(alone.logits, fused.logits, c.e);
  same(alone.indices, fused.indices, c.k);
  same(alone.weights, fused.weights, c.k);
}

// With 4 multiprocessors and more than 64 tokens, tiles are of 8 tokens; of 4 or 1 where the rows
// are long. Up to 64 the last block sorts.
MOEPP_TEST(simt_norm_route_top_k) {
  for (const NormRouteCase& c :
       {NormRouteCase{1, 1, 4, 1, 1, false, true}, NormRouteCase{7, 37, 7, 2, 3, false, false},
        NormRouteCase{1, 1536, 20, 2, 2, true, true}, NormRouteCase{8, 1536, 20, 2, 2, true, true},
        NormRouteCase{64, 48, 20, 2, 8, true, true}, NormRouteCase{65, 60, 20, 2, 2, true, false},
        NormRouteCase{131, 37, 12, 3, 2, false, true}, NormRouteCase{66, 2000, 9, 2, 2, true, true},
        NormRouteCase{66, 3200, 5, 1, 2, false, true}, NormRouteCase{5, 100, 256, 4, 8, true, true},
        NormRouteCase{6, 20, 5, 0, 2, true, true}, NormRouteCase{64, 16, 20, 2, 16, false, true},
        NormRouteCase{3, 24, 700, 0, 12, false, true},
        NormRouteCase{2, 800, 256, 0, 8, false, true},
        NormRouteCase{5, 36, 9, 0, 3, false, false, false}}) {
    expect_norm_route(c);
  }
}

MOEPP_TEST(simt_norm_route_top_k_schedules) {
  for_each_schedule([] {
    expect_norm_route({5, 60, 9, 2, 2, true, true});
    expect_norm_route({67, 24, 6, 1, 2, true, true});
  });
}

}  // namespace moepp::simt_test
