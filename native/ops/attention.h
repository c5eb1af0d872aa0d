#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// The mean of the values that a token sees, weighted by softmax:
//
//   for (t = 0; t < T; t++)
//     for (h = 0; h < Hq; h++) {
//       p = positions[t], g = h / (Hq / Hkv), total = 0, sum = 0;
//       for (s = window > 0 ? max(0, p - window + 1) : 0; s <= p; s++) {
//         w = exp(scale * dot(q[t][h], key[s][g]));
//         total += w;
//         sum += w * value[s][g];
//       }
//       out[t][h] = sum / total;
//     }
//
// key[s] and value[s] are those of position s in t's sequence b: row s % S of the layer's page
// page_table[b][s / S]. In a cache of latents a value is the first Dv elements of the key. Keys are
// taken in blocks of a fixed size, counted from position 0 (the CPU: a page; CUDA: 64 or 128 keys).
// Their order depends on the row alone. So a row does not depend on the other rows of the step.
// Blocks that no row may see are not read. f32 statistics and sums.
struct AttentionArgs {
  const Tensor* q;                // [T, Hq, D] f32
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32
  const Tensor* page_table;       // [B, M] i32
  const KvView* cache;
  Tensor* out;  // [T, Hq * Dv] f32 | bf16; Dv is the cache's value_dim, or of latents at most D
  int32_t layer;
  float scale;
  int32_t window = 0;  // 0: none

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("q", q, "T Hq D", DType::kF32);
    v.in("positions", positions, "T", DType::kI32);
    v.in("sequence_starts", sequence_starts, "_", DType::kI32);
    v.in("page_table", page_table, "B M", DType::kI32);
    v.cache("cache", cache);
    v.out("out", out, "T _", kF32OrBf16);
    v.attribute("layer", layer);
    v.attribute("scale", scale);
    v.attribute("window", window);
  }
};

// A step knows whether the cache holds latents; the compiler does not.
inline std::string bad_dims(int64_t key_dim, int64_t value_dim, bool latents) {
  if (!latents) {
    const std::string bad = bad_head_dim("the head dim", key_dim);
    return bad.empty() ? bad_head_dim("the values' head dim", value_dim) : bad;
  }
  if (value_dim < 2 || value_dim % 2 != 0 || value_dim > key_dim)
    return "the values' dim " + std::to_string(value_dim) + " must be even, and of the latent's " +
           std::to_string(key_dim);
  return bad_latent_dim(key_dim);
}

inline std::string broken_relation(const AttentionArgs& a) {
  if (a.q->shape[1] < 1 || a.out->shape[1] % a.q->shape[1] != 0)
    return "out must be [T, Hq * Dv] for q [T, Hq, D]";
  const int64_t value_dim = a.out->shape[1] / a.q->shape[1];
  const std::string bad = bad_dims(a.q->shape[2], value_dim, false);
  if (!bad.empty() && !bad_dims(a.q->shape[2], value_dim, true).empty()) return bad;
  if (a.window < 0) return "window must not be negative";
  return a.layer < 0 ? "layer must not be negative" : "";
}

inline std::string step_fault(const AttentionArgs& a, StepInputs& inputs) {
  const KvView& kv = *a.cache;
  const int64_t heads = a.q->shape[1], value_dim = a.out->shape[1] / heads;
  if (kv.key_dim != a.q->shape[2] || a.layer >= kv.layers || heads % kv.kv_heads != 0 ||
      (!kv.holds_latents() && value_dim != kv.value_dim) ||
      !bad_dims(kv.key_dim, value_dim, kv.holds_latents()).empty()) {
    return cache_text(kv) + ", which does not fit layer " + std::to_string(a.layer) + ", " +
           std::to_string(heads) + " query heads of " + std::to_string(a.q->shape[2]) +
           " and out of " + std::to_string(a.out->shape[1]) + " columns";
  }
  return inputs.bad_pages(a.positions, a.sequence_starts, a.page_table, *a.cache);
}

}  // namespace moepp
