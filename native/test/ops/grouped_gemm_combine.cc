#include <random>

#include "products.h"

namespace moepp::test {

namespace {

struct Case {
  int64_t t, k, n, f, h, c;  // n FFN experts, c constant ones
  double ffn_share = 0.7;
  bool delta = false, sum = true;

  std::string name() const {
    return "T " + std::to_string(t) + " K " + std::to_string(k) + " N " + std::to_string(n) +
           " F " + std::to_string(f) + " H " + std::to_string(h) + " C " + std::to_string(c) +
           (delta ? " with delta" : "");
  }
};

// One token: of all experts FFN ones, of some, of none. Then those that a GPU does in two kernels:
// rows of x or of the output that are no fours, several tokens.
constexpr Case kCases[] = {
    {1, 2, 4, 60, 64, 2, 1.0},         {1, 2, 4, 60, 36, 2, 0.0},
    {1, 1, 1, 64, 132, 0, 1.0, true},  {1, 8, 12, 32, 64, 3, 0.5, true, false},
    {1, 3, 5, 36, 260, 30, 0.7},       {1, 2, 4, 37, 64, 2, 1.0},
    {1, 2, 4, 64, 37, 2, 1.0, true},   {5, 2, 4, 64, 64, 2, 0.7},
    {40, 2, 4, 64, 24, 2, 0.7, false},
};

struct Data {
  const Picks picks;
  Floats x, expert_out, residual, delta, normed, coefficients, weights, constants, norm_weight, moe,
      sum, out;
  Ints offsets, rows;
  GroupedGemmCombineArgs args = {};

  Data(Arena& arena, const Case& c, const Weight& weight, bool may_round_x)
      : picks(draw_picks(c.t, c.k, c.n, c.ffn_share == 1.0 ? 0 : 4, c.ffn_share, 9)),
        x(arena, {c.t, c.k, c.f}, 3),
        expert_out(arena, {c.t, c.k, c.h}),
        residual(arena, {c.t, c.h}, 1),
        delta(arena, {c.t, c.h}, 9),
        normed(arena, {c.t, c.h}, 2),
        coefficients(arena, {c.t, c.c + 1}, 3),
        weights(arena, {c.t, c.k}, 4),
        constants(arena, {c.c, c.h}, 5),
        norm_weight(arena, {c.h}, 6),
        moe(arena, {c.t, c.h}),
        sum(arena, {c.t, c.h}),
        out(arena, {c.t, c.h}),
        offsets(arena, {c.n + 1}),
        rows(arena, {c.t, c.k}) {
    set(offsets, picks.offsets);
    set(rows, picks.rows);
    coefficients[0] = 0.0f;  // nothing of x
    coefficients.upload();
    args.gemm = {&x.tensor, &offsets.tensor,   nullptr,    &weight.tensor, &expert_out.tensor,
                 1.0f,      Activation::kNone, may_round_x};
    CombineArgs& a = args.combine;
    a.residual = &residual.tensor, a.delta = c.delta ? &delta.tensor : nullptr;
    a.x = &normed.tensor, a.expert_out = &expert_out.tensor;
    a.coefficients = &coefficients.tensor, a.expert_weights = &weights.tensor;
    a.expert_rows = &rows.tensor, a.constants = c.c > 0 ? &constants.tensor : nullptr;
    a.norm_weight = &norm_weight.tensor, a.out = &out.tensor, a.eps = 1e-5f;
    a.sum = c.sum ? &sum.tensor : nullptr;
    a.moe_output = c.delta ? &moe.tensor : nullptr;
  }

  std::string check(const GroupedGemmCombineArgs& a, Inputs inputs, int64_t columns) const {
    const int64_t h = a.combine.x->shape[1], t = a.combine.x->shape[0];
    const std::string text =
        check_grouped_gemm(a.gemm, sample(picks.offsets.back(), 5), sample(h, columns), inputs);
    return text.empty() ? check_combine(a.combine, sample(t, 9)) : text;
  }
};

void expect_as_apart(OpTest& on, const Case& c, const GemmKind& kind) {
  on.start(kind.name() + " " + c.name());
  const Weight weight(on, kind.dtype, Layout::kMatrix, {c.n, c.h, c.f}, 4, 1, 1.0f);
  Data d(on, c, weight, kind.may_round_x);
  const Inputs inputs = inputs_of(on, chosen_way(on, d.args.gemm), kind, c.f);
  on.poison(d.args);
  on.run(d.args.gemm), on.run(d.args.combine);
  const auto apart = on.outputs(d.args);
  on.expect(d.args, [&](const GroupedGemmCombineArgs& a) {
    on.expect_same(apart, on.outputs(d.args), "the two ops give others");
    return d.check(a, inputs, 40);
  });
  CombineArgs& bare = d.args.combine;
  bare.norm_weight = nullptr, bare.out = nullptr, bare.sum = &d.sum.tensor;
  on.expect(d.args, [&](const GroupedGemmCombineArgs& a) { return d.check(a, inputs, 40); });
}

// The op gives the bits of the two ops.
MOEPP_OP_TEST(grouped_gemm_combine) {
  if (on.device().kernels().grouped_gemm_combine == nullptr) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kCases, kind.dtype)) expect_as_apart(on, c, kind);
  }
}

// Steps of one token of the largest share of FFN experts, whose weights no cache holds.
MOEPP_BENCH(grouped_gemm_combine_bf16) {
  if (run.kernels().grouped_gemm_combine == nullptr) return;
  const bench::Experts e = run.sizes.few_experts();
  Case c = {1, e.top_k, e.ffn, e.intermediate, e.hidden, run.sizes.constants, 1.0};
  const Weight weight(run, DType::kBf16, Layout::kMatrix, {e.ffn, c.h, c.f}, 3);
  for (const int64_t t : {1, 8}) {
    c.t = t;
    Data d(run, c, weight, false);
    round_to_bf16(d.x);
    const double expert = static_cast<double>(weight.bytes()) / static_cast<double>(e.ffn);
    run.op_row({"grouped_gemm " + std::to_string(c.f) + " -> " + std::to_string(c.h) + " + combine",
                DType::kBf16,
                t,
                {static_cast<double>(d.picks.experts_used) * expert +
                     static_cast<double>(4 * t * c.k * c.f),
                 static_cast<double>(8 * t * c.h)}},
               d.args,
               [&](const GroupedGemmCombineArgs& a) { return d.check(a, gemm_inputs(run), 41); });
  }
}

}  // namespace
}  // namespace moepp::test
