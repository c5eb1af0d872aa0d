// The sizes that the benches run at.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/expert_runs.h"

namespace moepp::bench {

// A layer's router and what follows it. `copies` of its weights are read in turn: a decode step
// finds them in memory, or in a cache that the layers share.
struct RouterShape {
  int64_t hidden, ffn, constants, copies_of_x, zeros, top_k, copies;
  bool normalise = true, drop_zero = false, biased = false;
  float norm_std = 0.0f, weight_scale = 1.0f;

  ExpertRuns runs() const {
    ExpertRuns runs;
    runs.append(ExpertKind::kFfn, static_cast<int32_t>(ffn));
    runs.append(ExpertKind::kConstant, static_cast<int32_t>(constants));
    runs.append(ExpertKind::kCopy, static_cast<int32_t>(copies_of_x));
    runs.append(ExpertKind::kZero, static_cast<int32_t>(zeros));
    return runs;
  }
  int64_t experts() const { return ffn + constants + copies_of_x + zeros; }
};

struct Heads {
  int64_t query, kv, dim;
};

// Heads whose keys and values come of one latent. A query has dimensions that are not rotated, and
// some that are.
struct LatentHeads {
  int64_t query, plain, rotated, value, latent;
};

// A layer's FFN experts, and how many zero-computation experts share the picks with them.
struct Experts {
  int64_t hidden, intermediate, ffn, others, top_k;
};

// MoE++ 7B; and of models whose query heads share keys, 30B with 3B active.
struct Sizes {
  int64_t hidden = 1536, intermediate = 4096, heads = 16, head_dim = 96, vocabulary = 65536,
          layers = 24;
  int64_t ffn_experts = 16, constants = 2, top_k = 2, top_logits = 256;
  Heads grouped = {32, 4, 128};
  LatentHeads latent = {20, 192, 64, 256, 512};
  int64_t grouped_hidden = 2048, dense_intermediate = 6144, window = 1024;
  int64_t page_size = 64;
  int64_t cold_bytes = int64_t{384} << 20;  // more than any cache holds
  int64_t context = 4096;                   // of the longest decode step
  std::vector<int64_t> step_tokens = {1, 8, 512, 2048};
  std::vector<int64_t> gemm_tokens = {1, 4, 8, 64, 512};
  // of a whole step: more memory than a CPU's machine may have; --layers
  int64_t decode_layers = 2;
  std::vector<int64_t> decode_batches = {1, 8, 64};

  int64_t experts() const { return ffn_experts + constants + 2; }
  // Its router, then routers of other models. The first takes 8 of 128 experts. The second has 64
  // zero experts beside them. The third takes 12 of 512 experts and 256 copy experts, by a biased
  // choice.
  RouterShape router() const {
    return {hidden, ffn_experts, constants, 1, 1, top_k, layers, true, true, false, 1.0f};
  }
  std::vector<RouterShape> other_routers = {
      {2048, 128, 0, 0, 0, 8, 24},
      {2048, 128, 0, 0, 64, 8, 24},
      {6144, 512, 0, 256, 0, 12, 4, false, false, true, 0.0f, 6.0f}};
  std::vector<RouterShape> routers() const {
    std::vector<RouterShape> all = {router()};
    all.insert(all.end(), other_routers.begin(), other_routers.end());
    return all;
  }
  Heads plain() const { return {heads, heads, head_dim}; }
  Experts few_experts() const {
    return {hidden, intermediate, ffn_experts, experts() - ffn_experts, top_k};
  }
  Experts many_experts = {2048, 768, 128, 64, 8};
};

// A model that an emulated GPU runs in a moment.
inline Sizes tiny_sizes() {
  Sizes sizes;
  sizes.hidden = 64, sizes.intermediate = 64, sizes.heads = 2, sizes.head_dim = 64,
  sizes.vocabulary = 320, sizes.layers = 2;
  sizes.grouped = {8, 2, 64}, sizes.grouped_hidden = 64, sizes.dense_intermediate = 80,
  sizes.window = 24;
  sizes.ffn_experts = 4, sizes.top_logits = 16, sizes.page_size = 16, sizes.cold_bytes = 0,
  sizes.context = 80;
  sizes.step_tokens = {1, 9};
  sizes.other_routers = {{64, 12, 0, 0, 4, 8, 2},
                         {64, 200, 0, 100, 0, 12, 2, false, false, true, 0.0f, 6.0f}};
  sizes.many_experts = {64, 32, 12, 4, 8};
  sizes.gemm_tokens = {1, 20};
  sizes.decode_layers = 3;
  sizes.decode_batches = {1, 9};
  return sizes;
}

// For GPUs, whose steps are longer.
inline Sizes gpu_sizes() {
  Sizes sizes;
  sizes.step_tokens = {1, 8, 64, 512, 2048, 8192};
  sizes.gemm_tokens = {1, 8, 64, 512, 2048, 8192, 16384};
  sizes.decode_layers = sizes.layers;
  return sizes;
}

}  // namespace moepp::bench
