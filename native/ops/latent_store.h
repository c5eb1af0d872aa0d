#pragma once

#include "common.h"
#include "step_inputs.h"

namespace moepp {

// Norms a token's latent, and rotates its key and the queries. Writes latent and key into the cache
// as one row, and the queries that meet such rows.
//
//   row        = scale * RMSNorm(latent[t][0 .. C-1]; norm) over C with eps (RmsNormArgs), then
//                rotate(latent[t][C .. C + 2J - 1])
//   out[t][h]  = q_latent[t][h], then rotate(q[t][h][D - 2J .. D - 1]) of q's heads of D elements
//
// Both have W elements: C + 2J, or one more, a 0, where that is odd.
// rotate is that of rope_store, of J pairs. The row of token t of sequence b at position p goes to
// page page_table[b][p / S], row p % S, of the layer. Source: DeepSeek-V2, arXiv 2405.04434;
// scale: LongCat-Flash, arXiv 2509.01322.
struct LatentStoreArgs {
  const Tensor* q;                // [T, Hq D] f32
  const Tensor* q_latent;         // [T, Hq C] f32
  const Tensor* latent;           // [T, C + 2J] f32
  const Tensor* norm;             // [C] f32
  const Tensor* cosine;           // [T, J] f32
  const Tensor* sine;             // [T, J] f32
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32
  const Tensor* page_table;       // [B, M] i32
  const KvView* cache;            // of latents: one head, with keys of W and no values
  Tensor* out;                    // [T, Hq, W] f32
  int32_t layer;
  float eps = 0.0f;
  float scale = 1.0f;
  bool interleaved = false;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("q", q, "T _", DType::kF32);
    v.in("q_latent", q_latent, "T _", DType::kF32);
    v.in("latent", latent, "T _", DType::kF32);
    v.weight("norm", norm, "C", Layout::kRows);
    v.in("cosine", cosine, "T J", DType::kF32);
    v.in("sine", sine, "T J", DType::kF32);
    v.in("positions", positions, "T", DType::kI32);
    v.in("sequence_starts", sequence_starts, "_", DType::kI32);
    v.in("page_table", page_table, "B M", DType::kI32);
    v.cache("cache", cache);
    v.out("out", out, "T Hq _", DType::kF32);
    v.attribute("layer", layer);
    v.attribute("eps", eps);
    v.attribute("scale", scale);
    v.attribute("interleaved", interleaved);
  }
};

inline std::string broken_relation(const LatentStoreArgs& a) {
  const int64_t heads = a.out->shape[1], latent = a.norm->shape[0],
                rotated = 2 * a.cosine->shape[1], width = (latent + rotated + 1) / 2 * 2;
  const std::string bad = bad_latent_dim(width);
  if (!bad.empty()) return bad;
  if (rotated < 2 || latent < 1) return "a latent must have a rotated pair behind it";
  if (a.latent->shape[1] != latent + rotated || a.out->shape[2] != width)
    return "latent must have " + std::to_string(latent + rotated) + " columns, and out " +
           std::to_string(width);
  if (heads < 1 || a.q_latent->shape[1] != heads * latent)
    return "q_latent must have " + std::to_string(heads) + " heads of " + std::to_string(latent);
  if (a.q->shape[1] % heads != 0 || a.q->shape[1] / heads < rotated)
    return "q must have " + std::to_string(heads) + " heads of " + std::to_string(rotated) +
           " or more elements";
  if (!(a.eps >= 0) || !(a.scale > 0)) return "eps must not be negative, and scale positive";
  return a.layer < 0 ? "layer must not be negative" : "";
}

inline std::string step_fault(const LatentStoreArgs& a, StepInputs& inputs) {
  const KvView& kv = *a.cache;
  if (!kv.holds_latents() || kv.kv_heads != 1 || kv.key_dim != a.out->shape[2] ||
      a.layer >= kv.layers)
    return cache_text(kv) + ", which does not fit layer " + std::to_string(a.layer) +
           " of one head with latents of " + std::to_string(a.out->shape[2]) + " and no values";
  return inputs.bad_pages(a.positions, a.sequence_starts, a.page_table, *a.cache);
}

}  // namespace moepp
