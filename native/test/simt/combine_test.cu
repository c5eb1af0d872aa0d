#include <random>

#include "op_test.h"

namespace moepp::simt_test {

// A step of T tokens with random routing; inputs that no token may read are NaN.
struct CombineData {
  int64_t t, h, c, k;
  Shared<float> residual, x, expert_out, coefficients, weights, constants, norm_weight, moe, sum,
      out;
  Shared<int32_t> rows;

  CombineData(int64_t t, int64_t h, int64_t c, int64_t k)
      : t(t),
        h(h),
        c(c),
        k(k),
        residual(filled(t * h, 1)),
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

// Runs rows [first, first + count), with or without the optional outputs, and checks against the
// reference.
static void run_combine(CombineData& d, int64_t first, int64_t count, bool optional) {
  const Tensor residual = rows_of(whole(d.residual, {d.t, d.h}), first, count),
               x = rows_of(whole(d.x, {d.t, d.h}), first, count);
  const Tensor expert_out = whole(d.expert_out, {d.t, d.k, d.h}),
               constants = whole(d.constants, {d.c, d.h});
  const Tensor coefficients = rows_of(whole(d.coefficients, {d.t, d.c + 1}), first, count);
  const Tensor weights = rows_of(whole(d.weights, {d.t, d.k}), first, count),
               norm_weight = whole(d.norm_weight, {d.h});
  const Tensor rows = rows_of(whole(d.rows, {d.t, d.k}), first, count);
  Tensor moe = rows_of(whole(d.moe, {d.t, d.h}), first, count),
         sum = rows_of(whole(d.sum, {d.t, d.h}), first, count);
  Tensor out = rows_of(whole(d.out, {d.t, d.h}), first, count);
  const CombineArgs args = {&residual,
                            &x,
                            &expert_out,
                            &coefficients,
                            &weights,
                            &rows,
                            &constants,
                            &norm_weight,
                            optional ? &moe : nullptr,
                            optional ? &sum : nullptr,
                            &out,
                            1e-5f};
  const std::string label = "T " + std::to_string(d.t) + " H " + std::to_string(d.h);
  run_op(cuda::combine, args, label);
  expect_no_difference(label, check_combine(args, all(count)));
}

MOEPP_TEST(simt_combine) {
  for_each_schedule([] {
    const int64_t shapes[][4] = {
        {1, 1, 1, 1}, {3, 7, 0, 2}, {5, 60, 2, 2}, {2, 129, 30, 8}, {3, 1536, 2, 2}};
    for (const auto& [t, h, c, k] : shapes) {
      CombineData d(t, h, c, k);
      run_combine(d, 0, t, false);
      const Shared<float> without = copy_of(d.out);
      run_combine(d, 0, t, true);
      EXPECT_MESSAGE(same_rows(without, d.out), "optional outputs change out");
      for (int64_t row : {int64_t{0}, t / 2, t - 1}) {  // alone, a row gives the same bits
        run_combine(d, row, 1, false);
        EXPECT_MESSAGE(same_rows(without, d.out), "a row alone differs");
      }
    }
  });
}

}  // namespace moepp::simt_test
