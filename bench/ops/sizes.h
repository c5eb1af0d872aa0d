// The sizes that the benches run at.
#pragma once

#include <cstdint>
#include <vector>

namespace moepp::bench {

struct Heads {
  int64_t query, kv, dim;
};

// MoE++ 7B; and of models whose query heads share keys, 30B with 3B active.
struct Sizes {
  int64_t hidden = 1536, intermediate = 4096, heads = 16, head_dim = 96, vocabulary = 65536,
          layers = 24;
  int64_t ffn_experts = 16, constants = 2, top_k = 2, top_logits = 256;
  Heads grouped = {32, 4, 128};
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
  Heads plain() const { return {heads, heads, head_dim}; }
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
