// The kernel against the same reference, in the same cases, as the CPU's.
#include "op_test.h"

namespace moepp::simt_test {

struct RmsNormCase {
  int64_t t, h;
  bool delta, sum;
};

static void expect_rms_norm(const RmsNormCase& c, float scale) {
  const auto n = static_cast<size_t>(c.t * c.h), h = static_cast<size_t>(c.h);
  Shared<float> x(n), delta(n), weight(h), sum(n, NAN), out(n, NAN), alone(h, NAN);
  fill(x.data(), c.t * c.h, 1, scale);
  fill(delta.data(), c.t * c.h, 2, scale);
  fill(weight.data(), c.h, 3);
  for (size_t i = 0; i < h; i++) x[i] = delta[i] = 0.0f;  // a row of zeros
  const Tensor xt = tensor(x.data(), DType::kF32, {c.t, c.h}),
               dt = tensor(delta.data(), DType::kF32, {c.t, c.h});
  const Tensor wt = tensor(weight.data(), DType::kF32, {c.h});
  Tensor st = tensor(sum.data(), DType::kF32, {c.t, c.h}),
         ot = tensor(out.data(), DType::kF32, {c.t, c.h});
  const RmsNormArgs args = {&xt, c.delta ? &dt : nullptr, &wt, c.sum ? &st : nullptr, &ot, 1e-6f};
  const std::string label = "T " + std::to_string(c.t) + " H " + std::to_string(c.h);
  run_op(cuda::rms_norm, args, label);
  const std::string text = check_rms_norm(args, all(c.t));
  EXPECT_MESSAGE(text.empty(), label + ": " + text);
  expect_rounded_output(args, label,
                        [&](const RmsNormArgs& again) { run_op(cuda::rms_norm, again, label); });

  const size_t last = n - h;
  const Tensor x1 = tensor(x.data() + last, DType::kF32, {1, c.h}),
               d1 = tensor(delta.data() + last, DType::kF32, {1, c.h});
  Tensor o1 = tensor(alone.data(), DType::kF32, {1, c.h});
  run_op(cuda::rms_norm, {&x1, c.delta ? &d1 : nullptr, &wt, nullptr, &o1, 1e-6f}, label);
  EXPECT_MESSAGE(same_bits(alone.data(), out.data() + last, h * 4),
                 label + ": a row alone differs");
}

MOEPP_TEST(simt_rms_norm) {
  for_each_schedule([] {
    for (const RmsNormCase& c :
         {RmsNormCase{1, 1, false, false}, RmsNormCase{3, 7, true, true},
          RmsNormCase{2, 48, true, false}, RmsNormCase{5, 60, false, false},
          RmsNormCase{3, 1536, true, true}, RmsNormCase{2, 4097, true, false}}) {
      for (float scale : {1.0f, 1e-4f, 1e6f}) expect_rms_norm(c, scale);
    }
  });
}

MOEPP_TEST(simt_rms_norm_of_nothing_and_of_nan) {
  Shared<float> x(80, 1.0f), weight(40, 1.0f), out(80, 5.0f);
  x[5] = NAN;
  const Tensor none = tensor(x.data(), DType::kF32, {0, 40}),
               xt = tensor(x.data(), DType::kF32, {2, 40});
  const Tensor wt = tensor(weight.data(), DType::kF32, {40});
  Tensor nothing = tensor(out.data(), DType::kF32, {0, 40}),
         ot = tensor(out.data(), DType::kF32, {2, 40});
  run_op(cuda::rms_norm, {&none, nullptr, &wt, nullptr, &nothing, 1e-6f}, "nothing");
  EXPECT(out[0] == 5.0f);
  const RmsNormArgs args = {&xt, nullptr, &wt, nullptr, &ot, 1e-6f};
  run_op(cuda::rms_norm, args, "NaN");
  EXPECT_MESSAGE(check_rms_norm(args, all(2)).empty(), check_rms_norm(args, all(2)));
  EXPECT(std::isnan(out[0]) && !std::isnan(out[40]));
}

}  // namespace moepp::simt_test
