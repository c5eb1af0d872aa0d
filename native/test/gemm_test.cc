// linear: against the f64 reference, and bit for bit across rows, threads and neighbours.
#include <vector>

#include "cpu/isa/isa.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "reference_gemm.h"
#include "test.h"

namespace moepp::test {

using cpu::Isa;

struct LinearCase {
  int64_t tokens, inputs, outputs;
};

// 1, odd, not a multiple of a vector or of a panel, each count of rows that has a tile of its own,
// large.
static const LinearCase kCases[] = {
    {0, 8, 8},
    {1, 1, 1},
    {1, 37, 60},
    {2, 60, 37},
    {3, 61, 163},
    {4, 64, 32},
    {5, 7, 96},
    {6, 33, 129},
    {7, 128, 31},
    {8, 129, 64},
    {9, 60, 163},
    {10, 5, 33},
    {11, 2, 40},
    {12, 3, 300},
    {13, 61, 65},
    {14, 60, 1},
    {23, 64, 64},
    {40, 37, 60},
    {1, 1536, 520},
    {70, 300, 200},
    {250, 70, 163},
    {200, 6000, 40},
    {13, 50001, 33},
    {512, 64, 48},
    {9, kMostRoundedInputs, 2},
    {9, kMostRoundedInputs + 1, 2},
};

struct LinearSetup {
  LinearCase shape;
  GemmKind kind;
  Guarded<float> x, weight, out;
  Tensor xt, wt, ot;

  // In gate-up panels the weight has twice as many rows as there are outputs.
  LinearSetup(LinearCase c, const GemmKind& kind, Layout layout = Layout::kMatrix)
      : shape(c),
        kind(kind),
        x(c.tokens * c.inputs),
        weight(panel_count(layout, rows_of(c, layout)) * panel_bytes(kind.dtype, c.inputs) / 4),
        out(c.tokens * c.outputs) {
    fill(x.data(), x.size(), 1);
    fill_panels(weight.data(), kind.dtype, layout, 1, rows_of(c, layout), c.inputs, 2, 1.0f);
    xt = tensor(x.data(), DType::kF32, {c.tokens, c.inputs});
    wt = tensor(weight.data(), kind.dtype, {rows_of(c, layout), c.inputs}, layout);
    ot = tensor(out.data(), DType::kF32, {c.tokens, c.outputs});
  }
  static int64_t rows_of(const LinearCase& c, Layout layout) {
    return layout == Layout::kGateUp ? 2 * c.outputs : c.outputs;
  }
  LinearArgs args(Activation activation) { return {&xt, &wt, &ot, activation, kind.may_round_x}; }
  std::string check(const Isa& isa, const LinearArgs& args, int64_t rows, int64_t columns) const {
    return check_linear(args, sample(args.x->shape[0], rows), sample(shape.outputs, columns),
                        kind.inputs(isa, shape.inputs));
  }
};

static std::string describe(const Isa& isa, const GemmKind& kind, const LinearCase& c) {
  return std::string(isa.name) + " " + kind.name() + " T=" + std::to_string(c.tokens) +
         " I=" + std::to_string(c.inputs) + " O=" + std::to_string(c.outputs) + ": ";
}

// Row t alone, with the same weights.
static std::vector<float> alone(const Isa& isa, ThreadPool& pool, LinearSetup& setup, int64_t t) {
  std::vector<float> out(static_cast<size_t>(setup.shape.outputs));
  const Tensor x =
      tensor(setup.x.data() + t * setup.shape.inputs, DType::kF32, {1, setup.shape.inputs});
  Tensor o = tensor(out.data(), DType::kF32, {1, setup.shape.outputs});
  isa.kernels->linear({&x, &setup.wt, &o, Activation::kNone, setup.kind.may_round_x}, pool);
  return out;
}

MOEPP_TEST(linear_matches_reference) {
  ThreadPool one(1), two(2);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const LinearCase& c : kCases) {
        LinearSetup setup(c, kind);
        const LinearArgs args = setup.args(Activation::kNone);
        isa.kernels->linear(args, one);
        EXPECT(setup.out.margins_intact());
        const int64_t few = c.inputs > 1000 ? 12 : 60;
        const std::string wrong = setup.check(isa, args, few, few);
        EXPECT_MESSAGE(wrong.empty(), describe(isa, kind, c) + wrong);

        const std::vector<float> before(setup.out.data(), setup.out.data() + setup.out.size());
        isa.kernels->linear(args, two);
        EXPECT_MESSAGE(same_bits(before.data(), setup.out.data(), before.size() * 4),
                       describe(isa, kind, c) + "two threads differ");
        for (int64_t t : sample(c.tokens, 25)) {
          const std::vector<float> row = alone(isa, one, setup, t);
          EXPECT_MESSAGE(same_bits(row.data(), setup.out.data() + t * c.outputs, row.size() * 4),
                         describe(isa, kind, c) + "row " + std::to_string(t) + " alone differs");
        }
      }
    }
  }
}

// More threads than this machine has processors, than there are panels, and not a divisor of
// either.
MOEPP_TEST(linear_has_the_same_bits_with_many_threads) {
  ThreadPool one(1), five(5), sixteen(16);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const LinearCase& c :
           {LinearCase{1, 300, 2000}, {3, 61, 75}, {13, 64, 520}, {70, 300, 200}, {250, 70, 163}}) {
        LinearSetup setup(c, kind);
        isa.kernels->linear(setup.args(Activation::kNone), one);
        const std::vector<float> expected(setup.out.data(), setup.out.data() + setup.out.size());
        for (ThreadPool* pool : {&five, &sixteen}) {
          fill(setup.out.data(), setup.out.size(), 3);
          isa.kernels->linear(setup.args(Activation::kNone), *pool);
          EXPECT_MESSAGE(
              same_bits(expected.data(), setup.out.data(), expected.size() * 4),
              describe(isa, kind, c) + std::to_string(pool->threads()) + " threads differ");
        }
      }
    }
  }
}

MOEPP_TEST(linear_keeps_rows_apart) {
  ThreadPool two(2);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (int64_t tokens : {3, 8, 29}) {
        LinearSetup setup({tokens, 61, 75}, kind);
        const LinearArgs args = setup.args(Activation::kNone);
        isa.kernels->linear(args, two);
        const std::vector<float> before(setup.out.data(), setup.out.data() + setup.out.size());
        const int64_t bad = tokens / 2;
        setup.x[bad * 61 + 60] = std::nanf("");
        setup.x[(bad + 1) * 61] = HUGE_VALF;
        isa.kernels->linear(args, two);
        for (int64_t t = 0; t < tokens; t++) {
          if (t == bad || t == bad + 1) {
            const std::string wrong = check_linear(args, {t}, sample(75, 75), kind.inputs(isa, 61));
            EXPECT_MESSAGE(wrong.empty(), wrong);
          } else {
            EXPECT(same_bits(before.data() + t * 75, setup.out.data() + t * 75, 75 * 4));
          }
        }
      }
    }
  }
}

// A bias over shapes that are no whole panels and vectors, alone and before tanh. Without one the
// bits are those of a bias of 0, but for the sign of a 0.
MOEPP_TEST(linear_with_bias) {
  ThreadPool two(2);
  const LinearCase cases[] = {{1, 37, 60},  {2, 60, 37},  {3, 61, 163},  {8, 129, 1},
                              {13, 61, 65}, {40, 37, 31}, {70, 300, 200}};
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const LinearCase& c : cases) {
        LinearSetup setup(c, kind);
        Guarded<float> bias(c.outputs);
        fill(bias.data(), c.outputs, 9, 3.0f);
        const Tensor bt = tensor(bias.data(), DType::kF32, {c.outputs});
        for (const Activation activation : {Activation::kNone, Activation::kTanh}) {
          LinearArgs args = setup.args(activation);
          args.bias = &bt;
          isa.kernels->linear(args, two);
          EXPECT(setup.out.margins_intact());
          const std::string wrong = setup.check(isa, args, 60, c.outputs);
          EXPECT_MESSAGE(wrong.empty(), describe(isa, kind, c) + wrong);
        }
      }
    }
  }
}

// As grouped_gemm of one expert: bit by bit, and against the reference.
MOEPP_TEST(linear_swiglu) {
  ThreadPool two(2);
  const LinearCase cases[] = {{0, 8, 8},    {1, 1, 1},    {1, 37, 60},  {2, 60, 37},   {3, 61, 163},
                              {7, 128, 31}, {13, 61, 65}, {40, 37, 16}, {70, 300, 100}};
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const LinearCase& c : cases) {
        LinearSetup setup(c, kind, Layout::kGateUp);
        const LinearArgs args = setup.args(Activation::kSwiglu);
        isa.kernels->linear(args, two);
        EXPECT(setup.out.margins_intact());
        const std::string wrong = setup.check(isa, args, 60, c.outputs);
        EXPECT_MESSAGE(wrong.empty(), describe(isa, kind, c) + "swiglu " + wrong);
        std::vector<float> grouped(static_cast<size_t>(c.tokens * c.outputs));
        int32_t offsets[] = {0, static_cast<int32_t>(c.tokens)};
        const Tensor x = tensor(setup.x.data(), DType::kF32, {c.tokens, 1, c.inputs}),
                     starts = tensor(offsets, DType::kI32, {2}),
                     w = tensor(setup.weight.data(), kind.dtype, {1, 2 * c.outputs, c.inputs},
                                Layout::kGateUp);
        Tensor out = tensor(grouped.data(), DType::kF32, {c.tokens, 1, c.outputs});
        isa.kernels->grouped_gemm(
            {&x, &starts, nullptr, &w, &out, 1.0f, Activation::kSwiglu, kind.may_round_x}, two);
        EXPECT_MESSAGE(same_bits(grouped.data(), setup.out.data(), grouped.size() * 4),
                       describe(isa, kind, c) + "grouped_gemm differs");
      }
    }
  }
}

// With one input and the weight 1, out = tanh(x): to two units in the last place, infinities and
// NaN included.
MOEPP_TEST(linear_tanh) {
  ThreadPool one(1);
  for (const Isa& isa : cpu::available_isas()) {
    constexpr int64_t kTokens = 20000;
    LinearSetup setup({kTokens, 1, 1}, {DType::kF32});
    setup.weight[0] = 1.0f;
    for (int64_t t = 0; t < kTokens; t++) {
      setup.x[t] = t % 2 == 0 ? static_cast<float>(t - kTokens / 2) * 1e-3f
                              : std::ldexp(setup.x[t], static_cast<int>(t % 130) - 126);
    }
    setup.x[0] = HUGE_VALF;
    setup.x[1] = -HUGE_VALF;
    setup.x[2] = std::nanf("");
    isa.kernels->linear(setup.args(Activation::kTanh), one);
    double worst = 0.0;
    for (int64_t t = 0; t < kTokens; t++) {
      const double expected = std::tanh(static_cast<double>(setup.x[t]));
      const std::string wrong =
          difference(setup.out[t], {expected, 4.0 * kRoundoff * std::abs(expected) + 0x1p-149});
      EXPECT_MESSAGE(wrong.empty(), std::string(isa.name) + " tanh(" + std::to_string(setup.x[t]) +
                                        ") is " + wrong);
      if (std::abs(expected) > kSmallest)
        worst = std::fmax(
            worst, std::abs(static_cast<double>(setup.out[t]) - expected) / std::abs(expected));
    }
    EXPECT_MESSAGE(worst <= 4.0 * kRoundoff,
                   std::to_string(worst / (2.0 * kRoundoff)) + " units in the last place");

    for (const GemmKind& kind : kGemmKinds) {
      LinearSetup wide({30, 61, 75}, kind);
      const LinearArgs args = wide.args(Activation::kTanh);
      isa.kernels->linear(args, one);
      const std::string wrong = wide.check(isa, args, 30, 75);
      EXPECT_MESSAGE(wrong.empty(), std::string(isa.name) + ": " + wrong);
    }
  }
}

// The largest sums that int4 has: every half 0 or 15, every multiplier 15, either zero, every input
// the largest. The paths of one row, of a few, of more and of many give the same bits.
MOEPP_TEST(linear_of_extreme_int4) {
  ThreadPool pool(1);
  constexpr int64_t kInputs = 160, kOutputs = 32;
  for (const int halves : {0x00, 0xff}) {
    for (const uint16_t flags : {0, 15}) {
      LinearSetup setup({40, kInputs, kOutputs}, {DType::kI4});
      auto* panel = reinterpret_cast<unsigned char*>(setup.weight.data());
      for (int64_t b = 0; b < quant_blocks(kInputs); b++, panel += kInt4BlockBytes) {
        std::memset(panel, halves, kInt4Values);
        for (int64_t lane = 0; lane < kPanelRows; lane++) {
          const uint16_t scale[2] = {static_cast<uint16_t>(0x3c00 | flags), 0xffff};
          std::memcpy(panel + kInt4Values + 2 * lane, &scale[0], 2);
          std::memcpy(panel + kInt4Values + 2 * (kPanelRows + lane), &scale[1], 2);
        }
      }
      for (int64_t i = 0; i < setup.x.size(); i++) setup.x[i] = i / kInputs % 2 == 0 ? 3.0f : -3.0f;
      for (const Isa& isa : cpu::available_isas()) {
        std::vector<float> expected;
        for (const int64_t rows : {40, 13, 8, 4, 3, 2, 1}) {
          setup.xt.shape[0] = setup.ot.shape[0] = rows;
          isa.kernels->linear(setup.args(Activation::kNone), pool);
          const std::string label = std::string(isa.name) + ", " + std::to_string(rows) + " rows";
          const std::string wrong = setup.check(isa, setup.args(Activation::kNone), 4, 4);
          EXPECT_MESSAGE(wrong.empty(), label + ": " + wrong);
          if (expected.empty())
            expected.assign(setup.out.data(), setup.out.data() + rows * kOutputs);
          EXPECT_MESSAGE(same_bits(expected.data(), setup.out.data(),
                                   static_cast<size_t>(rows * kOutputs) * 4),
                         label);
        }
      }
    }
  }
}

}  // namespace moepp::test
