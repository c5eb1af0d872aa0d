#include <random>

#include "bench.h"
#include "op_test.h"

namespace moepp::test {

std::string check_combine(const CombineArgs& args, const Tokens& tokens) {
  const int64_t h = args.x->shape[1], c = args.coefficients->shape[1] - 1,
                k = args.expert_rows->shape[1];
  for (int64_t t : tokens) {
    std::vector<Bounded> moe, sum;
    for (int64_t i = 0; i < h; i++) {
      double m = 0.0, magnitude = 0.0;
      const auto add = [&](double weight, double term) {
        m += weight * term;
        magnitude += std::abs(weight * term);
      };
      const float* coefficients = args.coefficients->f32() + t * (c + 1);
      if (coefficients[0] != 0.0f) add(value(coefficients, 0), value(args.x->f32(), t * h + i));
      for (int64_t j = 0; j < c; j++) {
        if (coefficients[1 + j] != 0.0f)
          add(value(coefficients, 1 + j), value(args.constants->f32(), j * h + i));
      }
      for (int64_t j = 0; j < k; j++) {
        const int64_t row = args.expert_rows->i32()[t * k + j];
        if (row >= 0)
          add(value(args.expert_weights->f32(), t * k + j),
              value(args.expert_out->f32(), row * h + i));
      }
      moe.push_back({m, sum_error(1 + c + k, magnitude)});
      const double delta = args.delta != nullptr ? value(args.delta->f32(), t * h + i) : 0.0,
                   before = value(args.residual->f32(), t * h + i) + delta, s = before + m;
      const double rounding = args.delta != nullptr ? kRoundoff * std::abs(before) : 0.0,
                   error = moe.back().tolerance + rounding;
      sum.push_back({s, error + kRoundoff * (std::abs(s) + error)});
    }
    std::string text = args.moe_output == nullptr
                           ? ""
                           : at("moe_output", t, difference(args.moe_output->f32() + t * h, moe));
    if (text.empty() && args.sum != nullptr)
      text = at("sum", t, difference(args.sum->f32() + t * h, sum));
    if (text.empty() && args.norm_weight != nullptr) {
      const auto out = normalise(sum, args.norm_weight->f32(), static_cast<double>(args.eps));
      text = at("out", t, difference(args.out->f32() + t * h, out));
    }
    if (!text.empty()) return text;
  }
  return {};
}

namespace {

struct Case {
  int64_t t, h, c, k;
  bool large = false;

  std::string name() const {
    return "T " + std::to_string(t) + " H " + std::to_string(h) + " C " + std::to_string(c) +
           " K " + std::to_string(k);
  }
};

constexpr Case kCases[] = {{1, 1, 1, 1},    {3, 7, 0, 2},   {5, 60, 2, 2},
                           {2, 129, 3, 8},  {4, 96, 0, 16}, {2, 129, 30, 16},
                           {3, 1536, 2, 2}, {2, 64, 0, 4},  {41, 1536, 2, 2, true}};

struct Data {
  Floats residual, delta, x, expert_out, coefficients, weights, constants, norm_weight, moe, sum,
      out;
  Ints rows;
  CombineArgs args = {};

  Data(Arena& arena, const Case& c)
      : residual(arena, {c.t, c.h}, 1),
        delta(arena, {c.t, c.h}, 9),
        x(arena, {c.t, c.h}, 2),
        expert_out(arena, {c.t, c.k, c.h}),
        coefficients(arena, {c.t, c.c + 1}, 3),
        weights(arena, {c.t, c.k}, 4),
        constants(arena, {c.c, c.h}, 5),
        norm_weight(arena, {c.h}, 6),
        moe(arena, {c.t, c.h}),
        sum(arena, {c.t, c.h}),
        out(arena, {c.t, c.h}),
        rows(arena, {c.t, c.k}) {
    args.residual = &residual.tensor, args.x = &x.tensor, args.expert_out = &expert_out.tensor;
    args.coefficients = &coefficients.tensor, args.expert_weights = &weights.tensor;
    args.expert_rows = &rows.tensor, args.constants = c.c > 0 ? &constants.tensor : nullptr;
    args.norm_weight = &norm_weight.tensor, args.out = &out.tensor, args.eps = 1e-5f;
  }
  void give_rows(const std::vector<int32_t>& expert_rows, int64_t used) {
    set(rows, expert_rows);
    const int64_t h = expert_out.tensor.shape[2];
    fill(expert_out.host(), used * h, 8);
    expert_out.upload();
  }
};

// Random routing; what no token may read is NaN or infinite.
void route(Data* d, const Case& c) {
  std::mt19937 random(7);
  std::vector<int32_t> rows;
  int32_t used = 0;
  for (int64_t i = 0; i < c.t * c.k; i++) {
    rows.push_back(random() % 3 == 0 ? -1 : used++);
    if (rows.back() < 0) d->weights[i] = NAN;
  }
  d->give_rows(rows, used);
  for (int64_t i = 0; i < c.t; i++) {
    if (random() % 2 == 0) continue;
    d->coefficients[i * (c.c + 1)] = 0.0f;  // nothing of x
    for (int64_t j = 0; j < c.h; j++) d->x[i * c.h + j] = INFINITY;
  }
  d->weights.upload(), d->coefficients.upload(), d->x.upload();
}

MOEPP_OP_TEST(combine) {
  for (const Case& c : kCases) {
    if (c.large && on.emulated()) continue;
    for (const bool delta : {false, true}) {
      on.start(c.name() + (delta ? " with delta" : ""));
      Data d(on, c);
      route(&d, c);
      if (delta) d.args.delta = &d.delta.tensor;
      const auto check = [&](const CombineArgs& a) { return check_combine(a, all(c.t)); };
      on.expect(d.args, check);
      on.expect_rows_alone(d.args, {{0, c.t / 2, c.t - 1}}, [&](CombineArgs& one, int64_t) {
        one.expert_out = d.args.expert_out;  // whole: expert_rows points into it
      });
      const auto out = on.outputs(d.args);

      CombineArgs with_all = d.args;
      with_all.moe_output = &d.moe.tensor, with_all.sum = &d.sum.tensor;
      on.expect(with_all, check);
      on.expect_same(out, on.outputs(d.args), "optional outputs change out");
      CombineArgs bare = with_all;
      bare.norm_weight = nullptr, bare.out = nullptr, bare.moe_output = nullptr;
      const auto sum = on.outputs(bare);
      on.expect(bare, check);
      on.expect_same(sum, on.outputs(bare), "the sum without a norm differs");
    }
  }
}

// Picks as a router that spreads tokens evenly makes them.
MOEPP_BENCH(combine) {
  for (const bench::RouterShape& s : run.sizes.routers()) {
    for (const int64_t t : run.sizes.step_tokens) {
      const Case c = {t, s.hidden, s.constants, s.top_k};
      Data d(run, c);
      d.args.sum = &d.sum.tensor;
      const double ffn_share = static_cast<double>(s.ffn) / static_cast<double>(s.experts());
      const Picks picks = draw_picks(t, c.k, s.ffn, s.experts() - s.ffn, ffn_share, 10);
      d.give_rows(picks.rows, picks.offsets.back());
      std::mt19937 random(11);
      for (int64_t i = 0; i < t * (c.c + 1); i++) {
        if (random() % 4 != 0) d.coefficients[i] = 0.0f;
      }
      d.coefficients.upload();
      run.op_row({"combine " + std::to_string(c.h) + ", top " + std::to_string(c.k) + " of " +
                      std::to_string(s.experts()),
                  DType::kF32,
                  t,
                  {static_cast<double>((8 * t + 4 * picks.offsets.back()) * c.h),
                   static_cast<double>(8 * t * c.h)}},
                 d.args, [t](const CombineArgs& a) { return check_combine(a, sample(t, 50)); });
    }
  }
}

}  // namespace
}  // namespace moepp::test
