#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// Splits qkv into heads, norms and rotates q and k, writes q out, and k and v into the cache. Token
// t of sequence b at position p goes to page page_table[b][p / S], row p % S, of the given layer.
//   norm    with q_norm and k_norm: u = RMSNorm(head; q_norm or k_norm) over D with eps
//           (RmsNormArgs); else u = head. Values are not normed.
//   rotate  out[j] = a cosine[j] - b sine[j] and out[j + J] = b cosine[j] + a sine[j] for j < J,
//           of the pair a, b = u[j], u[j + J], or with interleaved u[2j], u[2j + 1]. From 2J on
//           out = u. So interleaved pairs come out as halves, for q and k alike.
struct RopeStoreArgs {
  const Tensor* qkv;              // [T, Hq D + Hkv D + Hkv Dv] f32: all q heads, all k heads, all v
                                  // heads; Hkv and Dv are the cache's
  const Tensor* cosine;           // [T, J] f32, 2J <= D
  const Tensor* sine;             // [T, J] f32
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32
  const Tensor* page_table;       // [B, M] i32
  const KvView* cache;
  Tensor* q;  // [T, Hq, D] f32
  int32_t layer;
  const Tensor* q_norm = nullptr;  // [D] f32 or null
  const Tensor* k_norm = nullptr;  // [D] f32; null exactly when q_norm is
  float eps = 0.0f;
  bool interleaved = false;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("qkv", qkv, "T _", DType::kF32);
    v.in("cosine", cosine, "T J", DType::kF32);
    v.in("sine", sine, "T J", DType::kF32);
    v.in("positions", positions, "T", DType::kI32);
    v.in("sequence_starts", sequence_starts, "_", DType::kI32);
    v.in("page_table", page_table, "B M", DType::kI32);
    v.cache("cache", cache);
    v.out("q", q, "T Hq D", DType::kF32);
    v.optional_weight("q_norm", q_norm, "D", Layout::kRows);
    v.optional_weight("k_norm", k_norm, "D", Layout::kRows);
    v.attribute("layer", layer);
    v.attribute("eps", eps);
    v.attribute("interleaved", interleaved);
  }
};

inline std::string broken_relation(const RopeStoreArgs& a) {
  const int64_t head_dim = a.q->shape[2], columns = a.qkv->shape[1];
  const std::string bad = bad_head_dim("the head dim", head_dim);
  if (!bad.empty()) return bad;
  if (a.cosine->shape[1] < 1 || 2 * a.cosine->shape[1] > head_dim)
    return "cosine and sine must have 1 to half of the head dim " + std::to_string(head_dim);
  if (columns <= a.q->shape[1] * head_dim)
    return "qkv must hold keys and values behind the query heads";
  if ((a.q_norm == nullptr) != (a.k_norm == nullptr)) return "q_norm and k_norm come together";
  if (!(a.eps >= 0)) return "eps must not be negative";
  return a.layer < 0 ? "layer must not be negative" : "";
}

inline std::string step_fault(const RopeStoreArgs& a, StepInputs& inputs) {
  const KvView& kv = *a.cache;
  const int64_t heads = a.q->shape[1], head_dim = a.q->shape[2], columns = a.qkv->shape[1];
  if (kv.key_dim != head_dim || a.layer >= kv.layers || heads % kv.kv_heads != 0 ||
      columns != heads * head_dim + kv.kv_heads * (kv.key_dim + kv.value_dim)) {
    return cache_text(kv) + ", which does not fit layer " + std::to_string(a.layer) + ", " +
           std::to_string(heads) + " query heads of " + std::to_string(head_dim) + " and qkv of " +
           std::to_string(columns) + " columns";
  }
  return inputs.bad_pages(a.positions, a.sequence_starts, a.page_table, *a.cache);
}

}  // namespace moepp
