#include <random>

#include "backends.h"
#include "reference.h"

namespace moepp::test {

// A step of T tokens with random routing; inputs that no token may read are NaN.
struct CombineData {
  int64_t t, h, c, k;
  Guarded<float> residual, x, expert_out, coefficients, weights, constants, norm_weight, moe, sum,
      out;
  Guarded<int32_t> rows;

  CombineData(int64_t t, int64_t h, int64_t c, int64_t k)
      : t(t),
        h(h),
        c(c),
        k(k),
        residual(filled(t * h, 1)),
        x(filled(t * h, 2)),
        expert_out(t * k * h),
        coefficients(filled(t * (c + 1), 3)),
        weights(filled(t * k, 4)),
        constants(filled(c * h, 5)),
        norm_weight(filled(h, 6)),
        moe(t * h),
        sum(t * h),
        out(t * h),
        rows(t * k) {
    std::mt19937 random(7);
    int32_t used = 0;
    for (int64_t i = 0; i < t * k; i++) {
      rows[i] = random() % 3 == 0 ? -1 : used++;
      if (rows[i] < 0) weights[i] = NAN;
    }
    for (int64_t i = 0; i < used; i++)
      fill(expert_out.data() + i * h, h, static_cast<uint32_t>(8 + i));
    for (int64_t i = 0; i < t; i++) {
      if (random() % 2 == 0) continue;
      coefficients[i * (c + 1)] = 0.0f;  // nothing of x: it may be anything
      for (int64_t j = 0; j < h; j++) x[i * h + j] = INFINITY;
    }
  }
};

// Runs rows [first, first + count), with or without the optional outputs, and checks against the
// reference.
static void run_combine(const Backend& backend, CombineData& d, int64_t first, int64_t count,
                        bool optional) {
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
  const std::string label =
      backend.name + " T " + std::to_string(d.t) + " H " + std::to_string(d.h);
  backend.isa.kernels->combine(args, backend.pool);
  expect_no_difference(label, check_combine(args, all(count)));
  expect_intact(label, d.moe);
  expect_intact(label, d.sum);
  expect_intact(label, d.out);
}

MOEPP_TEST(combine) {
  for_each_backend([](const Backend& backend) {
    const int64_t shapes[][4] = {{1, 1, 1, 1},   {3, 7, 0, 2},    {5, 60, 2, 2},
                                 {2, 129, 3, 8}, {1, 1536, 2, 2}, {41, 1536, 2, 2}};
    for (const auto& [t, h, c, k] : shapes) {
      CombineData d(t, h, c, k);
      run_combine(backend, d, 0, t, false);
      const std::vector<float> without(d.out.data(), d.out.data() + t * h);
      run_combine(backend, d, 0, t, true);
      EXPECT_MESSAGE(same_bits(without.data(), d.out.data(), without.size() * 4),
                     backend.name + ": optional outputs change out");
      for (int64_t row : {int64_t{0}, t / 2, t - 1}) {  // alone, a row gives the same bits
        run_combine(backend, d, row, 1, false);
        EXPECT_MESSAGE(same_bits(without.data(), d.out.data(), without.size() * 4),
                       backend.name + ": a row alone differs");
      }
    }
  });
}

}  // namespace moepp::test
