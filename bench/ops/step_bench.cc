// Whole pieces of work, beside their parts: a MoE layer, and a decode step.
#include "step.h"

namespace moepp::bench {

// norm_route_top_k, gate_up, down and combine as one recorded step. Calls take the hidden states of
// several steps in turn, so that a decode step finds its experts in memory.
MOEPP_BENCH(moe_layer) {
  const Sizes& s = run.sizes;
  const int64_t h = s.hidden;
  const MoeWeights weights(run, 1);
  for (const int64_t t : s.gemm_tokens) {
    const int64_t steps = t > 64 ? 2 : 12;
    Floats x(run, {steps * t, h}, 8), delta(run, {t, h}, 9);
    std::deque<Step> layers;
    MoeBuffers buffers(run, t, 1);
    double experts = 0.0, rows = 0.0;  // of a call on average
    for (int64_t i = 0; i < steps; i++) {
      Step& layer = layers.emplace_back(run);
      add_moe_layer(layer, weights, buffers, 0, *layer.rows(x.tensor, i * t, t), delta.tensor,
                    true);
      run.once([&](int64_t) { layer.enqueue(); });
      const MoeBuffers::Routed routed = buffers.routed(run);
      experts += static_cast<double>(routed.experts) / static_cast<double>(steps);
      rows += static_cast<double>(routed.rows) / static_cast<double>(steps);
    }
    run.row(
        {"moe_layer " + std::to_string(h) + ", " + std::to_string(s.ffn_experts) + " x " +
             std::to_string(s.intermediate),
         DType::kBf16,
         t,
         {experts * expert_bytes(run, weights) + static_cast<double>(8 * t * h),
          static_cast<double>(8 * t * h)},
         rows * expert_flops(s)},
        [&] {
          const std::string wrong = layers[0].check();
          return wrong.empty() ? layers[0].check_order({&buffers.x, &buffers.y}) : wrong;
        },
        [&](int64_t i) { layers[static_cast<size_t>(i % steps)].enqueue(); });
  }
}

// On a GPU the step is replayed as a graph, as programs replay it.
MOEPP_BENCH(decode) {
  const DecodeWeights weights(run, run.sizes.decode_layers);
  for (const int64_t batch : run.sizes.decode_batches) {
    DecodeStep step(run, weights, batch, run.sizes.context / 8);
    run.once([&](int64_t) { step.enqueue(); });
    run.row(
        step.row(), [&] { return step.check(); }, [&](int64_t) { step.enqueue(); });
  }
}

}  // namespace moepp::bench
