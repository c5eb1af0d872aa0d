#include "backends.h"
#include "reference.h"

namespace moepp::test {

struct RmsNormCase {
  int64_t t, h;
  bool delta, sum;
};

// Each row alone must give the same bits.
static void expect_rows_alone(const Backend& backend, const std::string& label,
                              const RmsNormArgs& args) {
  const int64_t h = args.x->shape[1];
  for (int64_t t : {int64_t{0}, args.x->shape[0] / 2, args.x->shape[0] - 1}) {
    const Tensor x = rows_of(*args.x, t, 1),
                 delta = args.delta != nullptr ? rows_of(*args.delta, t, 1) : Tensor{};
    Guarded<float> out(h);
    Tensor ot = whole(out, {1, h});
    backend.isa.kernels->rms_norm(
        {&x, args.delta != nullptr ? &delta : nullptr, args.weight, nullptr, &ot, args.eps},
        backend.pool);
    EXPECT_MESSAGE(same_bits(out.data(), args.out->f32() + t * h, static_cast<size_t>(h) * 4),
                   label + ": a row alone differs");
    expect_intact(label, out);
  }
}

MOEPP_TEST(rms_norm) {
  for_each_backend([](const Backend& backend) {
    for (const RmsNormCase& c :
         {RmsNormCase{1, 1, false, false}, RmsNormCase{3, 7, true, true},
          RmsNormCase{2, 48, true, false}, RmsNormCase{5, 60, false, false},
          RmsNormCase{1, 1536, true, true}, RmsNormCase{67, 1536, true, true},
          RmsNormCase{33, 4097, true, false}}) {
      for (float scale : {1.0f, 1e-4f, 1e6f}) {
        Guarded<float> x = filled(c.t * c.h, 1, scale), delta = filled(c.t * c.h, 2, scale),
                       weight = filled(c.h, 3);
        for (int64_t i = 0; i < c.h; i++) x[i] = delta[i] = 0.0f;  // a row of zeros
        Guarded<float> sum(c.t * c.h), out(c.t * c.h);
        const Tensor xt = whole(x, {c.t, c.h}), dt = whole(delta, {c.t, c.h}),
                     wt = whole(weight, {c.h});
        Tensor st = whole(sum, {c.t, c.h}), ot = whole(out, {c.t, c.h});
        const RmsNormArgs args = {&xt,  c.delta ? &dt : nullptr, &wt, c.sum ? &st : nullptr, &ot,
                                  1e-6f};
        const std::string label =
            backend.name + " T " + std::to_string(c.t) + " H " + std::to_string(c.h);
        backend.isa.kernels->rms_norm(args, backend.pool);
        expect_no_difference(label, check_rms_norm(args, all(c.t)));
        expect_intact(label, out);
        expect_intact(label, sum);
        expect_rows_alone(backend, label, args);
      }
    }
  });
}

MOEPP_TEST(rms_norm_of_nothing_and_of_nan) {
  for_each_backend([](const Backend& backend) {
    Guarded<float> x = filled(2 * 40, 1), weight = filled(40, 2), out(2 * 40);
    x[5] = NAN;
    const Tensor xt = whole(x, {2, 40}), wt = whole(weight, {40}), none = rows_of(xt, 0, 0);
    Tensor ot = whole(out, {2, 40}), nothing = rows_of(ot, 0, 0);
    backend.isa.kernels->rms_norm({&none, nullptr, &wt, nullptr, &nothing, 1e-6f}, backend.pool);
    EXPECT_MESSAGE(out.poisoned(0, 80), backend.name);
    const RmsNormArgs args = {&xt, nullptr, &wt, nullptr, &ot, 1e-6f};
    backend.isa.kernels->rms_norm(args, backend.pool);
    expect_no_difference(backend.name, check_rms_norm(args, all(2)));
    EXPECT_MESSAGE(std::isnan(out[0]) && !std::isnan(out[40]), backend.name);
  });
}

}  // namespace moepp::test
