#include "bench.h"
#include "op_test.h"

namespace moepp::test {

std::vector<Bounded> normalise(const std::vector<Bounded>& sum, const float* weight, double eps) {
  const double h = static_cast<double>(sum.size());
  double squares = 0.0, error = 0.0;  // of the sum of squares
  for (const Bounded& s : sum) {
    squares += s.value * s.value;
    error += (2.0 * std::abs(s.value) + s.tolerance) * s.tolerance;
  }
  error += sum_error(static_cast<int64_t>(sum.size()), squares);
  const double under = squares / h + eps, scale = 1.0 / std::sqrt(under);
  // The square root halves a relative error; division, addition, root and reciprocal add one
  // roundoff each.
  const double relative = 0.5 * error / h / under + 4.0 * kRoundoff;
  std::vector<Bounded> out;
  for (size_t i = 0; i < sum.size(); i++) {
    const double w = value(weight, static_cast<int64_t>(i)), y = sum[i].value * scale * w;
    out.push_back({y, 1.01 * (std::abs(y) * (relative + 2.0 * kRoundoff) +
                              sum[i].tolerance * std::abs(scale * w)) +
                          4.0 * kSmallest * kRoundoff});
  }
  return out;
}

std::string check_rms_norm(const RmsNormArgs& args, const Tokens& tokens) {
  const int64_t h = args.x->shape[1];
  for (int64_t t : tokens) {
    std::vector<Bounded> sum;
    for (int64_t i = 0; i < h; i++) {
      const double x = value(args.x->f32(), t * h + i);
      if (args.delta == nullptr) {
        sum.push_back({x, 0.0});
        continue;
      }
      const double s = x + value(args.delta->f32(), t * h + i);
      sum.push_back({s, kRoundoff * std::abs(s)});
    }
    std::string text =
        args.sum == nullptr ? "" : at("sum", t, difference(args.sum->f32() + t * h, sum));
    if (text.empty()) {
      const auto out = normalise(sum, args.weight->f32(), static_cast<double>(args.eps));
      text = at("out", t, difference(args.out->f32() + t * h, out));
    }
    if (!text.empty()) return text;
  }
  return {};
}

namespace {

struct Case {
  int64_t t, h;
  bool delta, sum;

  std::string name() const { return "T " + std::to_string(t) + " H " + std::to_string(h); }
};

constexpr Case kCases[] = {{0, 40, true, true},    {1, 1, false, false},   {3, 7, true, true},
                           {2, 48, true, false},   {5, 60, false, false},  {1, 1536, true, true},
                           {67, 1536, true, true}, {33, 4097, true, false}};

struct Data {
  Floats x, delta, weight, sum, out;
  RmsNormArgs args = {};

  Data(Arena& arena, const Case& c, float scale = 1.0f)
      : x(arena, {c.t, c.h}, 1, scale),
        delta(arena, {c.t, c.h}, 2, scale),
        weight(arena, {c.h}, 3),
        sum(arena, {c.t, c.h}),
        out(arena, {c.t, c.h}) {
    args.x = &x.tensor, args.weight = &weight.tensor, args.out = &out.tensor, args.eps = 1e-6f;
    if (c.delta) args.delta = &delta.tensor;
    if (c.sum) args.sum = &sum.tensor;
  }
};

MOEPP_OP_TEST(rms_norm) {
  for (const Case& c : kCases) {
    for (const float scale : {1.0f, 1e-4f, 1e6f}) {
      on.start(c.name());
      Data d(on, c, scale);
      for (int64_t i = 0; c.t > 0 && i < c.h; i++) d.x[i] = d.delta[i] = 0.0f;  // a row of zeros
      d.x.upload(), d.delta.upload();
      on.expect(d.args, [&](const RmsNormArgs& a) { return check_rms_norm(a, all(c.t)); });
      if (c.t > 0) on.expect_rows_alone(d.args, {{0, c.t / 2, c.t - 1}});
    }
  }
}

MOEPP_OP_TEST(rms_norm_of_nan) {
  Data d(on, {2, 40, false, false});
  d.x[5] = NAN;
  d.x.upload();
  on.expect(d.args, [](const RmsNormArgs& a) {
    const bool right = std::isnan(a.out->f32()[0]) && !std::isnan(a.out->f32()[40]);
    return right ? check_rms_norm(a, all(2)) : "a NaN is not where it belongs";
  });
}

MOEPP_BENCH(rms_norm) {
  for (const int64_t t : run.sizes.step_tokens) {
    const Case c = {t, run.sizes.hidden, true, true};
    Data d(run, c);
    const auto bytes = static_cast<double>(8 * t * c.h);
    run.op_row({"rms_norm with delta, " + std::to_string(c.h), DType::kF32, t, {bytes, bytes}},
               d.args, [&](const RmsNormArgs& a) { return check_rms_norm(a, sample(t, 50)); });
  }
}

}  // namespace
}  // namespace moepp::test
