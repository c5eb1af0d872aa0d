// grouped_gemm: against the f64 reference for many routings, and bit for bit across batches,
// threads and neighbours.
#include <random>
#include <vector>

#include "cpu/isa/isa.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "reference_gemm.h"
#include "test.h"

namespace moepp::test {

using cpu::Isa;

struct GroupedCase {
  int64_t tokens, top_k, experts, inputs, columns;
  bool swiglu, gather;
  float input_scale;
  double ffn_share;  // of the picks that need a GEMM
};

static const GroupedCase kCases[] = {
    {1, 1, 1, 1, 1, false, true, 1.0f, 1.0},      {1, 2, 4, 60, 37, true, true, 1.0f, 1.0},
    {1, 2, 4, 60, 37, true, true, 1.0f, 0.0},     {2, 2, 3, 61, 163, false, true, 2.0f, 0.5},
    {5, 2, 8, 60, 37, true, true, 2.0f, 0.7},     {5, 2, 8, 37, 60, false, false, 1.0f, 0.7},
    {40, 2, 3, 61, 17, true, true, 1.0f, 0.8},    {40, 2, 3, 60, 163, true, false, 0.5f, 0.8},
    {100, 3, 2, 33, 16, true, true, 1.0f, 1.0},   {100, 1, 5, 129, 40, false, true, 1.0f, 0.9},
    {300, 2, 4, 300, 70, true, true, 1.0f, 0.8},  {9, 2, 16, 1536, 130, true, true, 1.0f, 0.8},
    {120, 2, 1, 6000, 18, true, true, 1.0f, 1.0},
};

struct GroupedSetup {
  GroupedCase c;
  GemmKind kind;
  int64_t weight_rows;
  Layout layout;
  Guarded<float> x, weight, out;
  std::vector<int32_t> offsets, order;
  Tensor xt, offsets_t, order_t, wt, ot;

  GroupedSetup(const GroupedCase& c, const GemmKind& kind)
      : c(c),
        kind(kind),
        weight_rows(c.swiglu ? 2 * c.columns : c.columns),
        layout(c.swiglu ? Layout::kGateUp : Layout::kMatrix),
        x((c.gather ? 1 : c.top_k) * c.tokens * c.inputs),
        weight(c.experts * panel_count(layout, weight_rows) * panel_bytes(kind.dtype, c.inputs) /
               4),
        out(c.tokens * c.top_k * c.columns) {
    fill(x.data(), x.size(), 3);
    fill_panels(weight.data(), kind.dtype, layout, c.experts, weight_rows, c.inputs, 4, 1.0f);
    route();
    xt = c.gather ? tensor(x.data(), DType::kF32, {c.tokens, c.inputs})
                  : tensor(x.data(), DType::kF32, {c.tokens, c.top_k, c.inputs});
    offsets_t = tensor(offsets.data(), DType::kI32, {c.experts + 1});
    order_t = tensor(order.data(), DType::kI32, {c.tokens, c.top_k});
    wt = tensor(weight.data(), kind.dtype, {c.experts, weight_rows, c.inputs}, layout);
    ot = tensor(out.data(), DType::kF32, {c.tokens, c.top_k, c.columns});
  }

  // Experts are drawn unevenly, so that some have no row, some one, and some most.
  void route() {
    std::mt19937 random(9);
    std::vector<std::vector<int32_t>> picks(static_cast<size_t>(c.experts));
    for (int64_t pick = 0; pick < c.tokens * c.top_k; pick++) {
      if (static_cast<double>(random()) * 0x1p-32 >= c.ffn_share) continue;
      const size_t expert = random() % 3 == 0 ? random() % static_cast<size_t>(c.experts) : 0;
      picks[expert].push_back(static_cast<int32_t>(pick));
    }
    offsets.push_back(0);
    for (const auto& expert : picks) {
      order.insert(order.end(), expert.begin(), expert.end());
      offsets.push_back(static_cast<int32_t>(order.size()));
    }
    // entries past the last offset are not read
    order.resize(static_cast<size_t>(c.tokens * c.top_k), INT32_MAX);
  }
  int64_t rows() const { return offsets.back(); }
  GroupedGemmArgs args() {
    return {&xt,
            &offsets_t,
            c.gather ? &order_t : nullptr,
            &wt,
            &ot,
            c.input_scale,
            c.swiglu ? Activation::kSwiglu : Activation::kNone,
            kind.may_round_x};
  }
};

static std::string describe(const Isa& isa, const GemmKind& kind, const GroupedCase& c) {
  return std::string(isa.name) + " " + kind.name() + " T=" + std::to_string(c.tokens) +
         " K=" + std::to_string(c.top_k) + " N=" + std::to_string(c.experts) +
         " I=" + std::to_string(c.inputs) + " F=" + std::to_string(c.columns) + ": ";
}

// Row r alone: one token that goes to the expert of r and to no other.
static std::vector<float> alone(const Isa& isa, ThreadPool& pool, GroupedSetup& setup, int64_t r) {
  const GroupedCase& c = setup.c;
  std::vector<float> out(static_cast<size_t>(c.columns));
  std::vector<int32_t> offsets(static_cast<size_t>(c.experts + 1));
  for (int64_t n = 0; n < c.experts; n++) {
    const size_t next = static_cast<size_t>(n + 1);
    offsets[next] = setup.offsets[next] > r ? 1 : 0;
  }
  int32_t order = 0;
  const int64_t row = c.gather ? setup.order[static_cast<size_t>(r)] / c.top_k : r;
  const Tensor x = c.gather
                       ? tensor(setup.x.data() + row * c.inputs, DType::kF32, {1, c.inputs})
                       : tensor(setup.x.data() + row * c.inputs, DType::kF32, {1, 1, c.inputs});
  const Tensor offsets_t = tensor(offsets.data(), DType::kI32, {c.experts + 1}),
               order_t = tensor(&order, DType::kI32, {1, 1});
  Tensor o = tensor(out.data(), DType::kF32, {1, 1, c.columns});
  GroupedGemmArgs args = setup.args();
  args.x = &x;
  args.expert_offsets = &offsets_t;
  args.token_order = c.gather ? &order_t : nullptr;
  args.out = &o;
  isa.kernels->grouped_gemm(args, pool);
  return out;
}

MOEPP_TEST(grouped_gemm_matches_reference) {
  ThreadPool one(1), two(2);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const GroupedCase& c : kCases) {
        GroupedSetup setup(c, kind);
        const GroupedGemmArgs args = setup.args();
        isa.kernels->grouped_gemm(args, one);
        EXPECT(setup.out.margins_intact());
        EXPECT_MESSAGE(setup.out.poisoned(setup.rows() * c.columns, setup.out.size()),
                       describe(isa, kind, c) + "rows past the last expert were written");
        const int64_t few = c.inputs > 1000 ? 12 : 40;
        const std::string wrong = check_grouped_gemm(
            args, sample(setup.rows(), few), sample(c.columns, few), kind.inputs(isa, c.inputs));
        EXPECT_MESSAGE(wrong.empty(), describe(isa, kind, c) + wrong);

        const std::vector<float> before(setup.out.data(), setup.out.data() + setup.out.size());
        isa.kernels->grouped_gemm(args, two);
        EXPECT_MESSAGE(same_bits(before.data(), setup.out.data(), before.size() * 4),
                       describe(isa, kind, c) + "two threads differ");
        for (int64_t r : sample(setup.rows(), 25)) {
          const std::vector<float> row = alone(isa, one, setup, r);
          EXPECT_MESSAGE(same_bits(row.data(), setup.out.data() + r * c.columns, row.size() * 4),
                         describe(isa, kind, c) + "row " + std::to_string(r) + " alone differs");
        }
      }
    }
  }
}

MOEPP_TEST(grouped_gemm_has_the_same_bits_with_many_threads) {
  ThreadPool one(1), five(5), sixteen(16);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      for (const GroupedCase& c : {kCases[4], kCases[8], kCases[10], kCases[11]}) {
        GroupedSetup setup(c, kind);
        isa.kernels->grouped_gemm(setup.args(), one);
        const std::vector<float> expected(setup.out.data(),
                                          setup.out.data() + setup.rows() * c.columns);
        for (ThreadPool* pool : {&five, &sixteen}) {
          fill(setup.out.data(), setup.out.size(), 5);
          isa.kernels->grouped_gemm(setup.args(), *pool);
          EXPECT_MESSAGE(
              same_bits(expected.data(), setup.out.data(), expected.size() * 4),
              describe(isa, kind, c) + std::to_string(pool->threads()) + " threads differ");
        }
      }
    }
  }
}

MOEPP_TEST(grouped_gemm_keeps_rows_apart) {
  ThreadPool two(2);
  for (const Isa& isa : cpu::available_isas()) {
    for (const GemmKind& kind : kGemmKinds) {
      GroupedSetup setup({60, 1, 4, 61, 37, true, true, 1.0f, 1.0}, kind);
      const GroupedGemmArgs args = setup.args();
      isa.kernels->grouped_gemm(args, two);
      const std::vector<float> before(setup.out.data(), setup.out.data() + setup.out.size());
      setup.x[7 * 61 + 60] = std::nanf("");
      setup.x[20 * 61] = HUGE_VALF;
      isa.kernels->grouped_gemm(args, two);
      for (int64_t r = 0; r < setup.rows(); r++) {
        const int32_t token = setup.order[static_cast<size_t>(r)];
        if (token == 7 || token == 20) {
          const std::string wrong =
              check_grouped_gemm(args, {r}, sample(37, 37), kind.inputs(isa, 61));
          EXPECT_MESSAGE(wrong.empty(), wrong);
        } else {
          EXPECT(same_bits(before.data() + r * 37, setup.out.data() + r * 37, 37 * 4));
        }
      }
    }
  }
}

}  // namespace moepp::test
