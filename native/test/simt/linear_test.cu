// Each kernel of linear against the same reference as the CPU's.
#include "gemm_setup.h"

namespace moepp::simt_test {

using cuda::GemmKernel;

struct LinearCase {
  int64_t tokens, inputs, outputs;
};

struct LinearSetup {
  LinearCase c;
  GemmWeight weight;
  Shared<float> x, out;
  Tensor xt, ot;

  LinearSetup(LinearCase c, DType dtype, Layout layout = Layout::kMatrix)
      : c(c),
        weight(dtype, layout, 1, layout == Layout::kMatrix ? c.outputs : 2 * c.outputs, c.inputs),
        x(static_cast<size_t>(c.tokens * c.inputs)),
        out(static_cast<size_t>(c.tokens * c.outputs)) {
    fill(x.data(), c.tokens * c.inputs, 1);
    xt = tensor(x.data(), DType::kF32, {c.tokens, c.inputs});
    ot = tensor(out.data(), DType::kF32, {c.tokens, c.outputs});
  }
  // Without the leading 1 of a weight of one group.
  Tensor matrix(const Tensor& w) const {
    return tensor(w.data, w.dtype, {w.shape[1], c.inputs}, w.layout);
  }
};

static std::string describe(const GemmRun& run, DType dtype, const LinearCase& c) {
  return run.name() + " " + dtype_name(dtype) + " T=" + std::to_string(c.tokens) +
         " I=" + std::to_string(c.inputs) + " O=" + std::to_string(c.outputs) + ": ";
}

static void expect_linear(const LinearCase& c, DType dtype, const GemmRun& run,
                          Activation activation, bool biased = false) {
  LinearSetup setup(c, dtype,
                    activation == Activation::kSwiglu ? Layout::kGateUp : Layout::kMatrix);
  Shared<float> bias = filled(c.outputs, 9, 3.0f);
  const Tensor bt = whole(bias, {c.outputs});
  const std::string label = describe(run, dtype, c);
  const Tensor packed = setup.matrix(setup.weight.for_cuda),
               panels = setup.matrix(setup.weight.for_cpu);
  const std::vector<float> as_bf16 = rounded(setup.x.data(), setup.x.size());
  LinearArgs args = {&setup.xt, &packed, &setup.ot, activation};
  if (biased) args.bias = &bt;
  run_gemm(args, run, 2, label);
  expect_same_in_bf16(args, run, 2, label);
  Tensor x = setup.xt;
  if (rounds_activations(run.kernel)) x.data = const_cast<float*>(as_bf16.data());
  args.x = &x;
  args.weight = &panels;
  const std::string wrong =
      check_linear(args, sample(c.tokens, 24), sample(c.outputs, 24), Inputs::kExact);
  EXPECT_MESSAGE(wrong.empty(), label + wrong);
}

MOEPP_TEST(simt_linear) {
  const LinearCase cases[] = {
      {0, 8, 8},      {1, 1, 1},      {1, 37, 60},    {2, 60, 37},    {3, 61, 163},  {5, 7, 96},
      {8, 129, 64},   {9, 60, 163},   {14, 60, 1},    {23, 64, 64},   {40, 37, 60},  {1, 1536, 40},
      {70, 100, 200}, {130, 70, 163}, {20, 700, 40},  {130, 72, 500}, {33, 260, 45}, {2, 2052, 9},
      {4, 64, 36},    {37, 136, 77},  {131, 328, 45}, {260, 40, 261}};
  for (const LinearCase& c : cases) {
    for (DType dtype : kWeightTypes) {
      for (const GemmRun& run : runs_for(dtype)) expect_linear(c, dtype, run, Activation::kNone);
    }
  }
}

constexpr LinearCase kFewCases[] = {{1, 37, 61},    {9, 60, 163}, {40, 36, 33},
                                    {130, 72, 260}, {35, 88, 43}, {3, 8, 1}};

MOEPP_TEST(simt_linear_with_bias) {
  for (const LinearCase& c : kFewCases) {
    for (DType dtype : kWeightTypes) {
      for (const GemmRun& run : runs_for(dtype)) {
        expect_linear(c, dtype, run, Activation::kNone, true);
        const bool wide = run.kernel == GemmKernel::kSm80 || run.kernel == GemmKernel::kSm90;
        if (!wide) expect_linear(c, dtype, run, Activation::kTanh, true);
      }
    }
  }
}

MOEPP_TEST(simt_linear_swiglu) {
  for (const LinearCase& c : kFewCases) {
    for (DType dtype : kWeightTypes) {
      for (const GemmRun& run : runs_for(dtype)) expect_linear(c, dtype, run, Activation::kSwiglu);
    }
  }
}

MOEPP_TEST(simt_linear_tanh) {
  for (DType dtype : kWeightTypes) {
    for (const GemmRun& run : runs_for(dtype)) {
      if (run.kernel == GemmKernel::kSm80 || run.kernel == GemmKernel::kSm90) continue;
      expect_linear({11, 21, 30}, dtype, run, Activation::kTanh);
    }
  }
}

// Row t of many is the same as row t alone, kernel by kernel.
MOEPP_TEST(simt_linear_row_alone) {
  const LinearCase c = {35, 83, 50};
  for (DType dtype : kWeightTypes) {
    for (const GemmRun& run : runs_for(dtype)) {
      LinearSetup setup(c, dtype);
      const std::string label = describe(run, dtype, c);
      const Tensor packed = setup.matrix(setup.weight.for_cuda);
      run_gemm(LinearArgs{&setup.xt, &packed, &setup.ot, Activation::kNone}, run, 2, label);
      for (int64_t t : {0, 7, 34}) {
        Shared<float> x(83), out(50);
        std::memcpy(x.data(), setup.x.data() + t * 83, 83 * 4);
        const Tensor xt = tensor(x.data(), DType::kF32, {1, 83});
        Tensor ot = tensor(out.data(), DType::kF32, {1, 50});
        run_gemm(LinearArgs{&xt, &packed, &ot, Activation::kNone}, run, 2, label);
        EXPECT_MESSAGE(same_bits(out.data(), setup.out.data() + t * 50, 50 * 4),
                       label + "a row alone differs");
      }
    }
  }
}

// The op itself, with the kernel that it chooses.
MOEPP_TEST(simt_linear_op) {
  for (int64_t tokens : {0, 1, 20}) {
    LinearSetup setup({tokens, 64, 24}, DType::kF32);
    const Tensor packed = setup.matrix(setup.weight.for_cuda),
                 panels = setup.matrix(setup.weight.for_cpu);
    run_op(cuda::linear, {&setup.xt, &packed, &setup.ot, Activation::kTanh}, "linear");
    const std::string wrong = check_linear({&setup.xt, &panels, &setup.ot, Activation::kTanh},
                                           sample(tokens, 40), sample(24, 24), Inputs::kExact);
    EXPECT_MESSAGE(wrong.empty(), wrong);
  }
}

}  // namespace moepp::simt_test
