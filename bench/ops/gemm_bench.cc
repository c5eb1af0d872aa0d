// linear and grouped_gemm on the shapes of MoE++ 7B: hidden 1536, FFN 4096, 16 FFN experts of 20, top 2.
#include "bench.h"

#include <memory>
#include <random>

#include "../../native/test/reference_gemm.h"
#include "cpu/panels.h"

namespace moepp::bench {

using test::sample;
using test::tensor;

constexpr int64_t kHidden = 1536, kIntermediate = 4096, kExperts = 16, kAllExperts = 20, kTopK = 2;

// Activations, on huge pages as a program's are.
static std::unique_ptr<Buffer> floats(int64_t n, uint32_t seed = 0) {
  auto buffer = std::make_unique<Buffer>(static_cast<size_t>(n) * sizeof(float));
  if (seed != 0) test::fill(buffer->as<float>(), n, seed);
  return buffer;
}

// Copies of one weight, one behind the other and more than any cache holds, so that each call finds its weights in memory.
// A weight without copies stays in a cache, as those of a small model do.
static void linear_rows(Run& run, DType dtype, int64_t inputs, int64_t outputs, bool cached = false) {
  const int64_t bytes = cpu::panel_count(Layout::kPanels, outputs) * cpu::panel_bytes(dtype, inputs);
  const int64_t copies = cached ? 1 : (int64_t{384} << 20) / bytes + 1;
  Buffer weights(static_cast<size_t>(bytes * copies));
  test::fill_panels(weights.as<char>(), dtype, Layout::kPanels, 1, outputs, inputs, 1, 0.05f);
  for (int64_t c = 1; c < copies; c++)
    std::memcpy(weights.as<char>() + c * bytes, weights.as<char>(), static_cast<size_t>(bytes));
  for (int64_t tokens : {1, 2, 4, 8, 16, 64, 512}) {
    const auto x = floats(tokens * inputs, 2), out = floats(tokens * outputs);
    const Tensor xt = tensor(x->as<float>(), DType::kF32, {tokens, inputs});
    Tensor wt = tensor(weights.as<char>(), dtype, {outputs, inputs}, Layout::kPanels);
    Tensor ot = tensor(out->as<float>(), DType::kF32, {tokens, outputs});
    const LinearArgs args = {&xt, &wt, &ot, Activation::kNone};
    run.isa.kernels->linear(args, run.pool);
    const std::string wrong = test::check_linear(args, sample(tokens, 9), sample(outputs, 41));
    const double flops = 2.0 * static_cast<double>(tokens * inputs * outputs);
    const double moved = cached ? 0.0 : static_cast<double>(bytes + 4 * tokens * (inputs + outputs));
    run.row({"linear " + std::to_string(inputs) + " -> " + std::to_string(outputs), dtype_name(dtype), tokens, moved, flops,
             is_quantised(dtype)},
            wrong, [&](int64_t i) {
              wt.data = weights.as<char>() + i % copies * bytes;
              run.isa.kernels->linear(args, run.pool);
            });
  }
}

// Routing as a router draws it: for each token two different experts of all twenty; those past the sixteenth need no GEMM.
struct Routing {
  std::vector<int32_t> offsets, order;
  int64_t experts_used = 0;
};

static Routing draw_routing(int64_t tokens, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> picks(kExperts);
  for (int64_t t = 0; t < tokens; t++) {
    const int64_t first = random() % kAllExperts, second = (first + 1 + random() % (kAllExperts - 1)) % kAllExperts;
    if (first < kExperts) picks[static_cast<size_t>(first)].push_back(static_cast<int32_t>(t * kTopK));
    if (second < kExperts) picks[static_cast<size_t>(second)].push_back(static_cast<int32_t>(t * kTopK + 1));
  }
  Routing routing;
  routing.offsets.push_back(0);
  for (const auto& pick : picks) {
    routing.order.insert(routing.order.end(), pick.begin(), pick.end());
    routing.offsets.push_back(static_cast<int32_t>(routing.order.size()));
    routing.experts_used += pick.empty() ? 0 : 1;
  }
  routing.order.resize(static_cast<size_t>(tokens * kTopK));
  return routing;
}

// The gate-up projection [hidden -> 2 x FFN] with the gather and SwiGLU, or the down projection [FFN -> hidden].
static void grouped_rows(Run& run, DType dtype, bool gate_up) {
  const int64_t inputs = gate_up ? kHidden : kIntermediate, rows = gate_up ? 2 * kIntermediate : kHidden;
  const int64_t columns = gate_up ? kIntermediate : kHidden;
  const Layout layout = gate_up ? Layout::kGateUpPanels : Layout::kPanels;
  const int64_t bytes = cpu::panel_count(layout, rows) * cpu::panel_bytes(dtype, inputs);
  Buffer weights(static_cast<size_t>(bytes * kExperts));
  test::fill_panels(weights.as<char>(), dtype, layout, kExperts, rows, inputs, 3, 0.05f);
  Tensor wt = tensor(weights.as<char>(), dtype, {kExperts, rows, inputs}, layout);
  for (int64_t tokens : {1, 4, 8, 64, 512}) {
    std::vector<Routing> routings;  // of several steps, so that a decode step finds its experts in memory
    for (uint32_t i = 0; i < (tokens > 64 ? 2 : 12); i++) routings.push_back(draw_routing(tokens, 5 + i));
    while (routings[0].experts_used == 0) routings.erase(routings.begin());
    const auto x = floats((gate_up ? 1 : kTopK) * tokens * inputs, 4), out = floats(tokens * kTopK * columns);
    const Tensor xt = gate_up ? tensor(x->as<float>(), DType::kF32, {tokens, inputs})
                              : tensor(x->as<float>(), DType::kF32, {tokens, kTopK, inputs});
    Tensor offsets = tensor(nullptr, DType::kI32, {kExperts + 1}), order = tensor(nullptr, DType::kI32, {tokens, kTopK});
    Tensor ot = tensor(out->as<float>(), DType::kF32, {tokens, kTopK, columns});
    const GroupedGemmArgs args = {
        &xt, &offsets, gate_up ? &order : nullptr, &wt, &ot, 1.0f, gate_up ? Activation::kSwiglu : Activation::kNone};
    double calls_bytes = 0.0, calls_rows = 0.0;
    for (const Routing& routing : routings) {
      calls_bytes += static_cast<double>(routing.experts_used * bytes) / static_cast<double>(routings.size());
      calls_rows += static_cast<double>(routing.offsets[kExperts]) / static_cast<double>(routings.size());
    }
    const auto call = [&](size_t i) {
      offsets.data = routings[i].offsets.data();
      order.data = routings[i].order.data();
      run.isa.kernels->grouped_gemm(args, run.pool);
    };
    call(0);
    const std::string wrong = test::check_grouped_gemm(args, sample(routings[0].offsets[kExperts], 9), sample(columns, 41));
    // One call of the row is all routings: steps differ in what they read.
    const double steps = static_cast<double>(routings.size());
    const double moved = steps * (calls_bytes + 4.0 * calls_rows * static_cast<double>(inputs + columns));
    run.row({gate_up ? "grouped_gemm 1536 -> 2 x 4096, swiglu" : "grouped_gemm 4096 -> 1536", dtype_name(dtype), tokens, moved,
             2.0 * steps * calls_rows * static_cast<double>(inputs * rows), is_quantised(dtype)},
            wrong, [&](int64_t) {
              for (size_t i = 0; i < routings.size(); i++) call(i);
            });
  }
}

MOEPP_BENCH(linear_bf16) {
  linear_rows(run, DType::kBf16, kHidden, 3 * kHidden);
}
MOEPP_BENCH(linear_bf16_cached) {
  linear_rows(run, DType::kBf16, 512, 1024, true);
}
MOEPP_BENCH(linear_f32) {
  linear_rows(run, DType::kF32, kHidden, 3 * kHidden);
}
MOEPP_BENCH(grouped_gemm_bf16_gate_up) {
  grouped_rows(run, DType::kBf16, true);
}
MOEPP_BENCH(grouped_gemm_bf16_down) {
  grouped_rows(run, DType::kBf16, false);
}
MOEPP_BENCH(linear_int8) {
  linear_rows(run, DType::kI8, kHidden, 3 * kHidden);
}
MOEPP_BENCH(linear_int8_cached) {
  linear_rows(run, DType::kI8, 512, 1024, true);
}
MOEPP_BENCH(linear_int4) {
  linear_rows(run, DType::kI4, kHidden, 3 * kHidden);
}
MOEPP_BENCH(linear_int4_cached) {
  linear_rows(run, DType::kI4, 512, 1024, true);
}
MOEPP_BENCH(grouped_gemm_int8_gate_up) {
  grouped_rows(run, DType::kI8, true);
}
MOEPP_BENCH(grouped_gemm_int8_down) {
  grouped_rows(run, DType::kI8, false);
}
MOEPP_BENCH(grouped_gemm_int4_gate_up) {
  grouped_rows(run, DType::kI4, true);
}
MOEPP_BENCH(grouped_gemm_int4_down) {
  grouped_rows(run, DType::kI4, false);
}
MOEPP_BENCH(grouped_gemm_f32_gate_up) {
  grouped_rows(run, DType::kF32, true);
}

}  // namespace moepp::bench
