// Each kernel of grouped_gemm against the same reference as the CPU's, over shapes and routings.
#include "gemm_setup.h"

namespace moepp::simt_test {

using cuda::GemmKernel;

enum class Routing { kUneven, kNone, kOneExpert, kLastExpert };

struct GroupedCase {
  int64_t tokens, top_k, experts, inputs, columns;
  bool swiglu, gather;
  float input_scale;
  Routing routing;
};

struct GroupedSetup {
  GroupedCase c;
  int64_t weight_rows;
  GemmWeight weight;
  Shared<float> x, out;
  Shared<int32_t> offsets, order;
  Tensor xt, offsets_t, order_t, ot;

  GroupedSetup(const GroupedCase& c, DType dtype)
      : c(c),
        weight_rows(c.swiglu ? 2 * c.columns : c.columns),
        weight(dtype, c.swiglu ? Layout::kGateUp : Layout::kMatrix, c.experts, weight_rows,
               c.inputs),
        x(static_cast<size_t>((c.gather ? 1 : c.top_k) * c.tokens * c.inputs)),
        out(static_cast<size_t>(c.tokens * c.top_k * c.columns), kUntouched),
        offsets(static_cast<size_t>(c.experts + 1)),
        // entries past the last offset are not read
        order(static_cast<size_t>(c.tokens * c.top_k), INT32_MAX) {
    fill(x.data(), static_cast<int64_t>(x.size()), 3);
    route();
    xt = c.gather ? tensor(x.data(), DType::kF32, {c.tokens, c.inputs})
                  : tensor(x.data(), DType::kF32, {c.tokens, c.top_k, c.inputs});
    offsets_t = tensor(offsets.data(), DType::kI32, {c.experts + 1});
    order_t = tensor(order.data(), DType::kI32, {c.tokens, c.top_k});
    ot = tensor(out.data(), DType::kF32, {c.tokens, c.top_k, c.columns});
  }

  // A token's picks are of different experts.
  void route() {
    std::mt19937 random(9);
    std::vector<std::vector<int32_t>> picks(static_cast<size_t>(c.experts));
    for (int64_t token = 0; token < c.tokens && c.routing != Routing::kNone; token++) {
      const size_t experts = picks.size(), first = random() % 3 == 0 ? random() % experts : 0;
      for (int64_t k = 0; k < c.top_k; k++) {
        const auto pick = static_cast<int32_t>(token * c.top_k + k);
        const bool zero_computation = random() % 4 == 0 || k >= c.experts;
        if (c.routing == Routing::kOneExpert || c.routing == Routing::kLastExpert) {
          if (k == 0) picks[c.routing == Routing::kOneExpert ? 0 : experts - 1].push_back(pick);
        } else if (!zero_computation) {
          picks[(first + static_cast<size_t>(k)) % experts].push_back(pick);
        }
      }
    }
    int32_t row = 0;
    offsets[0] = 0;
    for (size_t n = 0; n < picks.size(); n++) {
      for (int32_t pick : picks[n]) order[static_cast<size_t>(row++)] = pick;
      offsets[n + 1] = row;
    }
  }
  int64_t rows() const { return offsets[offsets.size() - 1]; }
  GroupedGemmArgs args(const Tensor& weight_tensor) {
    return {&xt,
            &offsets_t,
            c.gather ? &order_t : nullptr,
            &weight_tensor,
            &ot,
            c.input_scale,
            c.swiglu ? Activation::kSwiglu : Activation::kNone};
  }
};

static std::string describe(const GemmRun& run, DType dtype, const GroupedCase& c) {
  return run.name() + " " + dtype_name(dtype) + " T=" + std::to_string(c.tokens) +
         " K=" + std::to_string(c.top_k) + " N=" + std::to_string(c.experts) +
         " I=" + std::to_string(c.inputs) + " F=" + std::to_string(c.columns) + ": ";
}

static void expect_grouped(const GroupedCase& c, DType dtype, const GemmRun& run,
                           int multiprocessors, int64_t sampled) {
  GroupedSetup setup(c, dtype);
  const std::string label = describe(run, dtype, c);
  run_gemm(setup.args(setup.weight.for_cuda), run, multiprocessors, label);
  expect_same_in_bf16(setup.args(setup.weight.for_cuda), run, multiprocessors, label);
  GroupedGemmArgs reference = setup.args(setup.weight.for_cpu);
  const std::vector<float> as_bf16 = rounded(setup.x.data(), setup.x.size());
  Tensor x = setup.xt;
  if (rounds_activations(run.kernel)) x.data = const_cast<float*>(as_bf16.data());
  reference.x = &x;
  const std::string wrong = check_grouped_gemm(reference, sample(setup.rows(), sampled),
                                               sample(c.columns, sampled), Inputs::kExact);
  EXPECT_MESSAGE(wrong.empty(), label + wrong);
  for (size_t i = static_cast<size_t>(setup.rows() * c.columns); i < setup.out.size(); i++) {
    EXPECT_MESSAGE(setup.out[i] == kUntouched, label + "wrote past the last row");
  }
}

MOEPP_TEST(simt_grouped_gemm) {
  const GroupedCase cases[] = {
      {1, 1, 1, 1, 1, false, true, 1.0f, Routing::kOneExpert},
      {1, 2, 4, 60, 37, true, true, 1.0f, Routing::kUneven},
      {1, 2, 4, 60, 37, true, true, 1.0f, Routing::kNone},
      {2, 2, 3, 61, 163, false, true, 2.0f, Routing::kUneven},
      {5, 2, 40, 60, 37, true, true, 2.0f, Routing::kUneven},
      {5, 2, 8, 37, 60, false, false, 1.0f, Routing::kUneven},
      {40, 2, 3, 61, 17, true, true, 1.0f, Routing::kUneven},
      {40, 2, 3, 72, 163, true, false, 0.5f, Routing::kUneven},
      {150, 2, 4, 36, 70, true, true, 1.0f, Routing::kUneven},
      {130, 1, 3, 129, 40, false, true, 1.0f, Routing::kOneExpert},
      {33, 3, 5, 100, 130, false, false, 1.0f, Routing::kLastExpert},
      {150, 2, 4, 136, 70, true, true, 1.0f, Routing::kUneven},
      {70, 3, 5, 40, 131, false, false, 2.0f, Routing::kUneven},
  };
  for (const GroupedCase& c : cases) {
    for (DType dtype : kWeightTypes) {
      for (const GemmRun& run : runs_for(dtype)) expect_grouped(c, dtype, run, 2, 24);
    }
  }
}

// Few blocks, so that each walks several tiles; every order of threads and copies.
MOEPP_TEST(simt_grouped_gemm_in_every_schedule) {
  for_each_schedule([] {
    for (DType dtype : kWeightTypes) {
      for (const GemmRun& run : runs_for(dtype)) {
        expect_grouped({37, 2, 3, 68, 70, true, true, 1.0f, Routing::kUneven}, dtype, run, 1, 12);
        expect_grouped({20, 2, 3, 67, 21, true, true, 1.0f, Routing::kUneven}, dtype, run, 1, 12);
        // more steps of k than a ring has stages; of sm_90 the wider of its two tiles
        if (rounds_activations(run.kernel) || is_quantised(dtype)) {
          expect_grouped({20, 2, 2, 328, 120, true, true, 1.0f, Routing::kUneven}, dtype, run, 1,
                         12);
        }
      }
    }
  });
}

// A row is the same whatever the rows beside it hold, and in every run.
MOEPP_TEST(simt_grouped_gemm_keeps_rows_apart) {
  for (DType dtype : kWeightTypes) {
    for (const GemmRun& run : runs_for(dtype)) {
      GroupedSetup setup({21, 2, 4, 61, 37, true, true, 1.0f, Routing::kUneven}, dtype);
      const std::string label = describe(run, dtype, setup.c);
      const auto multiply = [&](int multiprocessors) {
        run_gemm(setup.args(setup.weight.for_cuda), run, multiprocessors, label);
      };
      multiply(2);
      const std::vector<float> before(setup.out.data(), setup.out.data() + setup.out.size());
      setup.x[7 * 61 + 60] = NAN;
      setup.x[20 * 61] = HUGE_VALF;
      multiply(3);
      // splits of k depend on the device
      if (run.kernel == GemmKernel::kDecode) multiply(2);
      for (int64_t r = 0; r < setup.rows(); r++) {
        const int32_t token = setup.order[static_cast<size_t>(r)] / 2;
        const float* row = setup.out.data() + r * 37;
        if (token == 7) {
          for (int n = 0; n < 37; n++) EXPECT_MESSAGE(std::isnan(row[n]), label + "lost a NaN");
        } else if (token != 20) {
          EXPECT_MESSAGE(same_bits(before.data() + r * 37, row, 37 * 4),
                         label + "row " + std::to_string(r) + " differs");
        }
      }
    }
  }
}

// The op itself, with the kernel that it chooses.
static void expect_op(int64_t tokens, DType dtype, int capability) {
  GroupedSetup setup({tokens, 2, 4, 64, 24, true, true, 1.0f, Routing::kUneven}, dtype);
  const GroupedGemmArgs args = setup.args(setup.weight.for_cuda);
  cuda::CudaQueue queue(nullptr, 2, capability);
  const GemmKernel chosen = cuda::choose_gemm(cuda::gemm_of(args), queue);
  const std::string label = describe({chosen, capability}, dtype, setup.c);
  run_op(cuda::grouped_gemm, args, queue, label);
  GroupedGemmArgs reference = setup.args(setup.weight.for_cpu);
  const std::vector<float> as_bf16 = rounded(setup.x.data(), setup.x.size());
  Tensor x = setup.xt;
  if (rounds_activations(chosen)) x.data = const_cast<float*>(as_bf16.data());
  reference.x = &x;
  const std::string wrong =
      check_grouped_gemm(reference, sample(setup.rows(), 40), sample(24, 24), Inputs::kExact);
  EXPECT_MESSAGE(wrong.empty(), label + wrong);
}

MOEPP_TEST(simt_grouped_gemm_op) {
  for (const int capability : compute_capabilities()) {
    for (const int64_t tokens : {0, 1, 6, 20, 200}) {
      for (const DType dtype : kWeightTypes) expect_op(tokens, dtype, capability);
    }
  }
}

MOEPP_TEST(simt_choose_gemm) {
  // MoE++ 7B's gate_up_proj: from decode to prefill, on several chips.
  cuda::Gemm g = {};
  g.picks_per_row = 2, g.groups = 16, g.k = 1536, g.weight_rows = 8192, g.dtype = DType::kBf16;
  const cuda::CudaQueue ampere(nullptr, 108, 80), hopper(nullptr, 132, 90), turing(nullptr, 40, 75);
  const auto chosen = [&](int tokens, const cuda::CudaQueue& queue) {
    g.rows = 2 * tokens;
    return cuda::choose_gemm(g, queue);
  };
  EXPECT(chosen(1, ampere) == GemmKernel::kDecode && chosen(8, ampere) == GemmKernel::kDecode);
  // 4 rows per expert
  EXPECT(chosen(32, ampere) == GemmKernel::kDecode && chosen(32, turing) == GemmKernel::kDecode);
  EXPECT(chosen(33, ampere) == GemmKernel::kSm80Narrow &&
         chosen(256, ampere) == GemmKernel::kSm80Narrow);
  EXPECT(chosen(512, ampere) == GemmKernel::kSm80 && chosen(512, hopper) == GemmKernel::kSm90);
  EXPECT(chosen(1, turing) == GemmKernel::kDecode && chosen(512, turing) == GemmKernel::kF32);
  for (DType dtype : {DType::kI8, DType::kI4}) {
    g.dtype = dtype;
    const int most = dtype == DType::kI8 ? 4 : 2;
    EXPECT(chosen(most, hopper) == GemmKernel::kDecode &&
           chosen(most + 1, hopper) == GemmKernel::kSm80Narrow);
    EXPECT(chosen(8, turing) == GemmKernel::kDecode &&
           chosen(33, hopper) == GemmKernel::kSm80Narrow);
    EXPECT(chosen(512, hopper) == GemmKernel::kSm80 && chosen(512, turing) == GemmKernel::kF32);
  }
  g.weight_rows = 1536;  // down_proj: 12 tiles of 128 columns for each of up to 2 experts a token
  EXPECT(chosen(5, hopper) == GemmKernel::kDecode && chosen(6, hopper) == GemmKernel::kSm80Narrow);
  g.dtype = DType::kBf16;
  // Its o_proj and qkv_proj: 48 and 144 tiles of 32 columns.
  g.picks_per_row = g.groups = 1, g.weight_rows = 1536;
  const auto dense = [&](int rows, const cuda::CudaQueue& queue) {
    g.rows = rows;
    return cuda::choose_gemm(g, queue);
  };
  EXPECT(dense(32, hopper) == GemmKernel::kDecode && dense(33, hopper) == GemmKernel::kSm80Narrow);
  g.weight_rows = 4608;
  EXPECT(dense(8, hopper) == GemmKernel::kDecode && dense(9, hopper) == GemmKernel::kSm80Narrow);
  g.dtype = DType::kI8;  // 36 tiles of 128 columns
  EXPECT(dense(24, hopper) == GemmKernel::kDecode && dense(25, hopper) == GemmKernel::kSm80Narrow);
  g.weight_rows = 65536;
  EXPECT(dense(4, hopper) == GemmKernel::kDecode && dense(5, hopper) == GemmKernel::kSm80Narrow);
  g.dtype = DType::kF32;
  EXPECT(dense(512, ampere) == GemmKernel::kF32);
}

// A kernel that rounds x takes x as bf16, in rows of whole units.
MOEPP_TEST(simt_products_that_read_bf16) {
  cuda::Gemm g = {};
  g.picks_per_row = 2, g.groups = 16, g.weight_rows = 8192;
  const cuda::CudaQueue ampere(nullptr, 108, 80), hopper(nullptr, 132, 90), turing(nullptr, 40, 75);
  const auto reads = [&](DType dtype, int tokens, int k, const cuda::CudaQueue& queue) {
    g.dtype = dtype, g.rows = 2 * tokens, g.k = k;
    return cuda::reads_bf16(g, queue);
  };
  for (const DType dtype : {DType::kBf16, DType::kI8, DType::kI4}) {
    for (const int tokens : {64, 512}) {
      EXPECT(reads(dtype, tokens, 1536, ampere) && reads(dtype, tokens, 1536, hopper));
      EXPECT(!reads(dtype, tokens, 1540, hopper) && !reads(dtype, tokens, 1536, turing));
    }
    EXPECT(!reads(dtype, 1, 1536, hopper));
  }
  EXPECT(!reads(DType::kF32, 512, 1536, hopper));
}

}  // namespace moepp::simt_test
