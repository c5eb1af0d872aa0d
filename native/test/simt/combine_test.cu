#include <random>

#include "kernel_test.h"

namespace moepp::simt_test {

// A step of T tokens with random routing; inputs that no token may read are NaN.
struct CombineData {
  int64_t t, h, c, k;
  Shared<float> residual, delta, x, expert_out, coefficients, weights, constants, norm_weight, moe,
      sum, out;
  Shared<int32_t> rows;

  CombineData(int64_t t, int64_t h, int64_t c, int64_t k)
      : t(t),
        h(h),
        c(c),
        k(k),
        residual(filled(t * h, 1)),
        delta(filled(t * h, 9)),
        x(filled(t * h, 2)),
        expert_out(unwritten(t * k * h)),
        coefficients(filled(t * (c + 1), 3)),
        weights(filled(t * k, 4)),
        constants(filled(c * h, 5)),
        norm_weight(filled(h, 6)),
        moe(unwritten(t * h)),
        sum(unwritten(t * h)),
        out(unwritten(t * h)),
        rows(static_cast<size_t>(t * k)) {
    std::mt19937 random(7);
    int32_t used = 0;
    for (size_t i = 0; i < rows.size(); i++) {
      rows[i] = random() % 3 == 0 ? -1 : used++;
      if (rows[i] < 0) weights[i] = NAN;
    }
    for (int64_t i = 0; i < used; i++)
      fill(expert_out.data() + i * h, h, static_cast<uint32_t>(8 + i));
    for (int64_t i = 0; i < t; i++) {
      if (random() % 2 == 0) continue;
      coefficients[static_cast<size_t>(i * (c + 1))] = 0.0f;  // nothing of x: it may be anything
      for (int64_t j = 0; j < h; j++) x[static_cast<size_t>(i * h + j)] = INFINITY;
    }
  }
};

struct CombineKind {
  bool delta = false, norm = true, sum = false, moe = false;
};

// Runs rows [first, first + count) and checks against the reference.
static void run_combine(CombineData& d, int64_t first, int64_t count, const CombineKind& kind) {
  const auto of = [&](Shared<float>& values) {
    return rows_of(whole(values, {d.t, d.h}), first, count);
  };
  const Tensor residual = of(d.residual), delta = of(d.delta), x = of(d.x);
  const Tensor expert_out = whole(d.expert_out, {d.t, d.k, d.h}),
               constants = whole(d.constants, {d.c, d.h});
  const Tensor coefficients = rows_of(whole(d.coefficients, {d.t, d.c + 1}), first, count);
  const Tensor weights = rows_of(whole(d.weights, {d.t, d.k}), first, count),
               norm_weight = whole(d.norm_weight, {d.h});
  const Tensor rows = rows_of(whole(d.rows, {d.t, d.k}), first, count);
  Tensor moe = of(d.moe), sum = of(d.sum), out = of(d.out);
  CombineArgs args = {};
  args.residual = &residual, args.delta = kind.delta ? &delta : nullptr, args.x = &x;
  args.expert_out = &expert_out, args.coefficients = &coefficients;
  args.expert_weights = &weights, args.expert_rows = &rows;
  args.constants = d.c > 0 ? &constants : nullptr;
  if (kind.norm) args.norm_weight = &norm_weight, args.out = &out, args.eps = 1e-5f;
  args.moe_output = kind.moe ? &moe : nullptr, args.sum = kind.sum ? &sum : nullptr;
  const std::string label = "T " + std::to_string(d.t) + " H " + std::to_string(d.h);
  run_op(cuda::combine, args, label);
  expect_no_difference(label, check_combine(args, all(count)));
  if (!kind.norm) return;
  expect_rounded_output(args, label,
                        [&](const CombineArgs& again) { run_op(cuda::combine, again, label); });
}

MOEPP_TEST(simt_combine) {
  for_each_schedule([] {
    const int64_t shapes[][4] = {{1, 1, 1, 1},     {3, 7, 0, 2},    {5, 60, 2, 2},
                                 {2, 129, 30, 16}, {3, 1536, 2, 2}, {2, 64, 0, 4}};
    for (const auto& [t, h, c, k] : shapes) {
      for (const bool delta : {false, true}) {
        CombineData d(t, h, c, k);
        run_combine(d, 0, t, {delta, true, false, false});
        const Shared<float> without = copy_of(d.out);
        run_combine(d, 0, t, {delta, true, true, true});
        EXPECT_MESSAGE(same_rows(without, d.out), "optional outputs change out");
        const Shared<float> sum = copy_of(d.sum);
        for (int64_t row : {int64_t{0}, t / 2, t - 1}) {  // alone, a row gives the same bits
          run_combine(d, row, 1, {delta, true, false, false});
          EXPECT_MESSAGE(same_rows(without, d.out), "a row alone differs");
        }
        CombineData bare(t, h, c, k);
        run_combine(bare, 0, t, {delta, false, true, false});
        EXPECT_MESSAGE(same_rows(sum, bare.sum), "the sum without a norm differs");
      }
    }
  });
}

}  // namespace moepp::simt_test
