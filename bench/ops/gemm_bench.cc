// linear and grouped_gemm on the shapes of the model: the projections of attention and the FFN
// experts.
#include "bench.h"

namespace moepp::bench {

using test::GemmKind;
using test::sample;

static std::string rounded(const GemmKind& kind) {
  return kind.may_round_x ? ", x rounded" : "";
}
static const char* instruction(const GemmKind& kind) {
  return kind.may_round_x ? "bf16_dot" : "";
}

struct LinearShape {
  int64_t inputs, outputs;
  Activation activation = Activation::kNone;
  bool biased = false;
  bool cached = false;  // the weight stays in a cache, as those of a small model do
};

static void linear_rows(Run& run, const GemmKind& kind, const LinearShape& shape) {
  const DType dtype = kind.dtype;
  const bool swiglu = shape.activation == Activation::kSwiglu;
  const int64_t inputs = shape.inputs, outputs = shape.outputs,
                rows = swiglu ? 2 * outputs : outputs;
  const Layout layout = swiglu ? Layout::kGateUp : Layout::kMatrix;
  const int64_t bytes = Weight::bytes_of(run, dtype, layout, {rows, inputs});
  Weight weight(run, dtype, layout, {rows, inputs}, 1,
                shape.cached ? 1 : run.sizes.cold_bytes / bytes + 1);
  Tensor wt = weight.tensor;
  Floats bias(run, {outputs}, 3);
  for (int64_t tokens : run.sizes.gemm_tokens) {
    Activations x(run, {tokens, inputs}, 2);
    Floats out(run, {tokens, outputs});
    const LinearArgs args = {&x.tensor,        &wt,
                             &out.tensor,      shape.activation,
                             kind.may_round_x, shape.biased ? &bias.tensor : nullptr};
    wt.data = weight.copy(0);
    x.hold_as_read(args);
    run.row(
        {"linear " + std::to_string(inputs) + " -> " + (swiglu ? "2 x " : "") +
             std::to_string(outputs) +
             (swiglu         ? ", swiglu"
              : shape.biased ? ", bias"
                             : "") +
             rounded(kind) + x.note(),
         dtype, tokens,
         shape.cached ? Bytes()
                      : Bytes{static_cast<double>(bytes) +
                                  x.bytes_per_element() * static_cast<double>(tokens * inputs),
                              static_cast<double>(4 * tokens * outputs)},
         2.0 * static_cast<double>(tokens * inputs * rows), instruction(kind)},
        args,
        [&](const LinearArgs& a) {
          return test::check_linear(a, sample(tokens, 9), sample(outputs, 41), gemm_inputs(run));
        },
        [&](int64_t i) {
          wt.data = weight.copy(i);
          run.kernels().linear(args, run.device().queue());
        });
  }
}

// The gate-up projection [hidden -> 2 x FFN] with the gather and SwiGLU, or the down projection
// [FFN -> hidden]. Routing is that of a router that spreads tokens evenly. Calls take the routings
// of several steps in turn, so that a decode step finds its experts in memory.
static void grouped_rows(Run& run, const GemmKind& kind, const Experts& s, bool gate_up) {
  const DType dtype = kind.dtype;
  const int64_t inputs = gate_up ? s.hidden : s.intermediate,
                columns = gate_up ? s.intermediate : s.hidden;
  const int64_t rows = gate_up ? 2 * columns : columns, k = s.top_k, n = s.ffn;
  const Layout layout = gate_up ? Layout::kGateUp : Layout::kMatrix;
  Weight weight(run, dtype, layout, {n, rows, inputs}, 3);
  const double expert_bytes = static_cast<double>(weight.bytes()) / static_cast<double>(n);
  for (int64_t tokens : run.sizes.gemm_tokens) {
    const int64_t steps = tokens > 64 ? 2 : 12;
    Ints offsets(run, {steps, n + 1}), order(run, {steps, tokens * k});
    double bytes = 0.0, gemm_rows = 0.0;  // of a step on average
    int64_t first_rows = 0;
    for (int64_t i = 0, seed = 5; i < steps; seed++) {
      const double ffn_share = static_cast<double>(n) / static_cast<double>(n + s.others);
      const Picks picks =
          draw_picks(tokens, k, n, s.others, ffn_share, static_cast<uint32_t>(seed));
      if (picks.experts_used == 0) continue;
      if (i == 0) first_rows = picks.offsets.back();
      std::copy(picks.offsets.begin(), picks.offsets.end(), offsets.host() + i * (n + 1));
      std::copy(picks.order.begin(), picks.order.end(), order.host() + i * tokens * k);
      bytes += static_cast<double>(picks.experts_used) * expert_bytes / static_cast<double>(steps);
      gemm_rows += static_cast<double>(picks.offsets.back()) / static_cast<double>(steps);
      i++;
    }
    offsets.upload();
    order.upload();
    std::unique_ptr<Activations> x(gate_up ? new Activations(run, {tokens, inputs}, 4)
                                           : new Activations(run, {tokens, k, inputs}, 4));
    Floats out(run, {tokens, k, columns});
    Tensor offsets_of = test::tensor(offsets.device(), DType::kI32, {n + 1});
    Tensor order_of = test::tensor(order.device(), DType::kI32, {tokens, k});
    const GroupedGemmArgs args = {&x->tensor,
                                  &offsets_of,
                                  gate_up ? &order_of : nullptr,
                                  &weight.tensor,
                                  &out.tensor,
                                  1.0f,
                                  gate_up ? Activation::kSwiglu : Activation::kNone,
                                  kind.may_round_x};
    if (!gate_up) x->hold_as_read(args);  // the router and combine read gate_up's, too: it is f32
    const std::string shape =
        std::to_string(inputs) + " -> " + (gate_up ? "2 x " : "") + std::to_string(columns);
    // A call of the row is one after the other of the steps: they differ in what they read.
    const auto all_steps = [&](int64_t) {
      for (int64_t i = steps - 1; i >= 0; i--) {
        offsets_of.data = offsets.device() + i * (n + 1);
        order_of.data = order.device() + i * tokens * k;
        run.kernels().grouped_gemm(args, run.device().queue());
      }
    };
    const double calls = static_cast<double>(steps);
    run.row(
        {"grouped_gemm " + shape + (gate_up ? ", swiglu" : "") + rounded(kind) + x->note(),
         dtype,
         tokens,
         {calls * (bytes + x->bytes_per_element() * gemm_rows * static_cast<double>(inputs)),
          calls * 4.0 * gemm_rows * static_cast<double>(columns)},
         calls * 2.0 * gemm_rows * static_cast<double>(inputs * rows),
         instruction(kind)},
        args,
        [&](const GroupedGemmArgs& a) {
          return test::check_grouped_gemm(a, sample(first_rows, 9), sample(columns, 41),
                                          gemm_inputs(run));
        },
        all_steps);
  }
}

static void linear_of(Run& run, const GemmKind& kind) {
  linear_rows(run, kind, {run.sizes.hidden, 3 * run.sizes.hidden});
}
// The projections of query heads that share keys, with biases, and the dense layer's FFN.
static void dense_of(Run& run, const GemmKind& kind) {
  const Sizes& s = run.sizes;
  const Heads& h = s.grouped;
  linear_rows(run, kind, {s.grouped_hidden, (h.query + 2 * h.kv) * h.dim, Activation::kNone, true});
  linear_rows(run, kind, {h.query * h.dim, s.grouped_hidden});
  linear_rows(run, kind, {s.grouped_hidden, s.dense_intermediate, Activation::kSwiglu});
}
static void grouped_of(Run& run, const GemmKind& kind) {
  grouped_rows(run, kind, run.sizes.few_experts(), true);
  grouped_rows(run, kind, run.sizes.few_experts(), false);
}
// Small experts, so many that each has a few rows of a prompt.
static void many_experts_of(Run& run, const GemmKind& kind) {
  grouped_rows(run, kind, run.sizes.many_experts, true);
  grouped_rows(run, kind, run.sizes.many_experts, false);
}

MOEPP_BENCH(linear_bf16) {
  linear_of(run, {DType::kBf16});
}
MOEPP_BENCH(linear_bf16_cached) {
  linear_rows(run, {DType::kBf16}, {512, 1024, Activation::kNone, false, true});
}
MOEPP_BENCH(linear_bf16_rounded) {
  linear_of(run, {DType::kBf16, true});
}
MOEPP_BENCH(linear_f32) {
  linear_of(run, {DType::kF32});
}
MOEPP_BENCH(linear_int8) {
  linear_of(run, {DType::kI8});
}
MOEPP_BENCH(linear_int8_cached) {
  linear_rows(run, {DType::kI8}, {512, 1024, Activation::kNone, false, true});
}
MOEPP_BENCH(linear_int4) {
  linear_of(run, {DType::kI4});
}
MOEPP_BENCH(linear_int4_cached) {
  linear_rows(run, {DType::kI4}, {512, 1024, Activation::kNone, false, true});
}
MOEPP_BENCH(linear_dense_bf16) {
  dense_of(run, {DType::kBf16});
}
MOEPP_BENCH(linear_dense_int8) {
  dense_of(run, {DType::kI8});
}
MOEPP_BENCH(linear_dense_int4) {
  dense_of(run, {DType::kI4});
}
MOEPP_BENCH(grouped_gemm_bf16) {
  grouped_of(run, {DType::kBf16});
}
MOEPP_BENCH(grouped_gemm_bf16_rounded) {
  grouped_of(run, {DType::kBf16, true});
}
MOEPP_BENCH(grouped_gemm_f32) {
  grouped_of(run, {DType::kF32});
}
MOEPP_BENCH(grouped_gemm_int8) {
  grouped_of(run, {DType::kI8});
}
MOEPP_BENCH(grouped_gemm_int4) {
  grouped_of(run, {DType::kI4});
}
MOEPP_BENCH(grouped_gemm_many_bf16) {
  many_experts_of(run, {DType::kBf16});
}
MOEPP_BENCH(grouped_gemm_many_int8) {
  many_experts_of(run, {DType::kI8});
}
MOEPP_BENCH(grouped_gemm_many_int4) {
  many_experts_of(run, {DType::kI4});
}

}  // namespace moepp::bench
