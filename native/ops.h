// One plain struct of arguments per op, with its contract. A kernel is a function of its arguments
// and a queue.
//
// Dimension letters, the same everywhere:
//   T  tokens of the step            H  hidden size                D   head dim of queries and keys
//   B  sequences of the step         F  FFN expert intermediate    Hq  query heads
//   R  rows whose logits are wanted  E  experts, all kinds         Hkv key/value heads
//   V  vocabulary                    N  FFN experts                S   tokens per page (KV cache)
//   K  experts chosen per token      C  constant experts           M   pages per sequence
//
// visit() declares each field once: its name, direction, shape and type. The checker, the reader of
// recorded programs and the memory planner are visitors (program/), so no field is described
// twice. In a shape, the first field that shows a letter binds it, and the others must agree.
// "2F" is twice F, "_" is anything. The words mean:
//   in, optional_in  read; an optional one may be absent (null)
//   out              written whole
//   optional_out     written whole unless null; null when no op reads it and no capture asks for it
//   weight           constant for the program's life, in the layout named
//   table            a weight of which rows are looked up; it has the layout of an op that
//   multiplies
//                    by it, else rows
//   may_round        true if the program computes in bf16 (program/spec.h)
//   cache            the KV cache, read and written by page
// The type of in and out is a dtype, or kF32OrBf16. Programs record such a buffer as f32.
// If all of its fields do, a step may hold it as bf16, where every op that reads it would round it
// (Device::reads_bf16). Then the op that writes it rounds instead, to nearest, ties to even: no
// result changes.
#pragma once

#include "expert_runs.h"
#include "tensor.h"

namespace moepp {

// The KV cache of all layers. A page has the keys and the values of each head, in sizes of their
// own. The order of bytes within a page is the device's affair (cpu/kv_layout.h).
struct KvView {
  void* data = nullptr;
  DType dtype = DType::kF32;  // f32 | bf16
  int64_t layers = 0, pages = 0, page_size = 0, kv_heads = 0, key_dim = 0, value_dim = 0;

  // Elements of one page of one layer.
  int64_t page_elements() const { return kv_heads * (key_dim + value_dim) * page_size; }
};
constexpr int64_t kMostHeadDim = 256;

struct FieldType {
  DType dtype;
  bool or_bf16;

  constexpr FieldType(DType recorded, bool bf16 = false) : dtype(recorded), or_bf16(bf16) {}
};
constexpr FieldType kF32OrBf16(DType::kF32, true);

enum class Activation : int32_t { kNone = 0, kTanh = 1, kSwiglu = 2 };

// out[t] = table[tokens[t]].
struct EmbeddingArgs {
  const Tensor* tokens;  // [T] i32, each in [0, V)
  const Tensor* table;   // [V, H] f32 | bf16; rows; or, when the output head shares it, kMatrix:
                         // then int8 and int4, too
  Tensor* out;           // [T, H] f32

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("tokens", tokens, "T", DType::kI32);
    v.table("table", table, "V H");
    v.out("out", out, "T H", DType::kF32);
  }
};

// sum[t] = x[t] + delta[t] (x alone without delta); out[t] = sum[t] / sqrt(mean(sum[t]^2) + eps) *
// weight. f32 throughout. Source: MoE++ reference model, RMSNorm and the residual additions.
struct RmsNormArgs {
  const Tensor* x;       // [T, H] f32
  const Tensor* delta;   // [T, H] f32 or null
  const Tensor* weight;  // [H] f32
  Tensor* sum;           // [T, H] f32; null when delta is null, or when nothing reads it
  Tensor* out;           // [T, H] f32 | bf16
  float eps;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.optional_in("delta", delta, "T H", DType::kF32);
    v.weight("weight", weight, "H", Layout::kRows);
    v.optional_out("sum", sum, "T H", DType::kF32);
    v.out("out", out, "T H", kF32OrBf16);
    v.attribute("eps", eps);
  }
};

// Inputs of a product that may be rounded: see LinearArgs.
constexpr int64_t kMostRoundedInputs = 65536;

// g = weight x[t] + bias (nothing is added without one); out[t] = activation(g). With swiglu g is F
// gate columns, then F up columns, and out[t][f] = silu(g[f]) * g[F + f]; it takes no bias.
//   f32, bf16   f32 products and sums over k in ascending order, so that a row does not depend on
//               the number of rows. With bf16 weights AMX sums in an order of its own, the same for
//               every row (README.md).
//   int8, int4  The CPU quantises x to int8 by blocks of 128 k first. The sum is over blocks,
//               ascending, of exact integer sums times the scales
//               (cpu/kernels/quantised_gemm.inl.h). A GPU does not quantise x
//               (cuda/kernels/grouped_gemm/gemm.h).
// may_round_x: with bf16 weights, a set that multiplies pairs of bf16 (cpu/isa/isa.h) rounds x to
// bf16, if I is at most kMostRoundedInputs. It sums pairs of k in ascending order. Elsewhere it
// changes nothing.
struct LinearArgs {
  const Tensor* x;       // [T, I] f32 | bf16
  const Tensor* weight;  // [O, I] f32 | bf16 | int8 | int4, kMatrix; or [2F, I], kGateUp,
                         // with swiglu
  Tensor* out;           // [T, O] f32 | bf16, or [T, F]
  Activation activation;
  bool may_round_x = false;
  const Tensor* bias = nullptr;  // [O] f32 or null

  template <class Visitor>
  void visit(Visitor& v) {
    v.attribute("activation", activation);
    v.may_round(may_round_x);
    const bool swiglu = activation == Activation::kSwiglu;
    v.in("x", x, "T I", kF32OrBf16);
    v.weight("weight", weight, swiglu ? "2F I" : "O I", swiglu ? Layout::kGateUp : Layout::kMatrix);
    v.optional_weight("bias", bias, swiglu ? "2F" : "O", Layout::kRows);
    v.out("out", out, swiglu ? "T F" : "T O", kF32OrBf16);
  }
};

// cosine[t][j], sine[t][j] of the f32 angle (position[t] / position_divisor) * frequencies[b][j],
// for the sequence b of t, times magnitude; a magnitude of 1 changes no bit. Sources: MoE++
// reference model, rotary embeddings; "linear" scaling sets the divisor, "ntk" and "dynamic" the
// frequencies; YaRN, arXiv 2309.00071, whose attention factor is the magnitude.
struct RopeTableArgs {
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32: sequence b has the tokens sequence_starts[b] ..
                                  // sequence_starts[b+1]-1
  const Tensor* frequencies;      // [B, J] f32, J pairs of dimensions
  Tensor* cosine;                 // [T, J] f32
  Tensor* sine;                   // [T, J] f32
  float position_divisor;
  float magnitude = 1.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("positions", positions, "T", DType::kI32);
    v.in("sequence_starts", sequence_starts, "_", DType::kI32);
    v.in("frequencies", frequencies, "B J", DType::kF32);
    v.out("cosine", cosine, "T J", DType::kF32);
    v.out("sine", sine, "T J", DType::kF32);
    v.attribute("position_divisor", position_divisor);
    v.attribute("magnitude", magnitude);
  }
};

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

// out[t][h] = sum_s softmax_s(scale * q[t][h] . k[s]) v[s] over the keys s of t's sequence with s
// <= position[t] and, with a window, s > position[t] - window. Query head h reads key/value head h
// / (Hq / Hkv). Keys are taken in blocks of a fixed size, counted from position 0 (the CPU: a page;
// CUDA: 64 keys), in ascending order. So a row does not depend on the other rows of the step.
// Blocks that no row may see are not read. f32 statistics and sums.
struct AttentionArgs {
  const Tensor* q;                // [T, Hq, D] f32
  const Tensor* positions;        // [T] i32
  const Tensor* sequence_starts;  // [B+1] i32
  const Tensor* page_table;       // [B, M] i32
  const KvView* cache;
  Tensor* out;  // [T, Hq * Dv] f32 | bf16; Dv is the cache's value_dim
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

// logits[t] = router z[t] + residual_map previous_logits[t], where z is hidden if given (the
// two-layer router), else x. constant_scores[t][2c + j] = constant_router[2c + j] . x[t]: the input
// of each constant expert's own softmax. f32. Source: paper, gating residuals; MoE++ reference
// model, Router and ConstantExpert.
struct RouterLogitsArgs {
  const Tensor* x;                // [T, H] f32, normalised
  const Tensor* hidden;           // [T, G] f32 or null
  const Tensor* previous_logits;  // [T, E] f32 or null (first layer)
  const Tensor* router;           // [E, G] f32, G = H without hidden
  const Tensor* residual_map;     // [E, E] f32; null exactly when previous_logits is
  const Tensor* constant_router;  // [X, H] f32, X = 2C; null without constant experts
  Tensor* logits;                 // [T, E] f32
  Tensor* constant_scores;        // [T, X] f32; null exactly when constant_router is

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.optional_in("hidden", hidden, "T G", DType::kF32);
    v.weight("router", router, hidden ? "E G" : "E H", Layout::kRows);
    v.optional_in("previous_logits", previous_logits, "T E", DType::kF32);
    if (previous_logits) v.weight("residual_map", residual_map, "E E", Layout::kRows);
    v.out("logits", logits, "T E", DType::kF32);
    v.optional_weight("constant_router", constant_router, "X H", Layout::kRows);
    if (constant_router) v.out("constant_scores", constant_scores, "T X", DType::kF32);
  }
};

enum class Scores : int32_t { kSoftmax = 0, kSigmoid = 1 };

// Top-K gating over experts of four kinds (expert_runs.h). With z = logits * (norm_std / unbiased
// std of the logits), or z = logits when norm_std is 0:
//   score   g = softmax(z) over all E, or sigmoid(z). With `masked` a zero-computation expert has
//           g = 0, and the softmax leaves it out; norm_std must be 0 then.
//   choice  c = g + selection_bias. The E experts are `groups` equal runs; a group's score is the
//           sum of its two largest c. Outside the top_groups best groups c becomes 0, which may
//           still be chosen. The K largest c are chosen. Without bias, groups and masks the order
//           of z stands for that of g, whose values round.
//   weight  w = g of the chosen; 0 for a zero expert with drop_zero. Then, with `normalise`, w /=
//           their sum, to which sigmoid adds 1e-20. Then w *= weight_scale.
// Equal choices, and equal groups: the lower index first. A NaN counts as minus infinity there, and
// makes its token's weights NaN, unless masked. A standard deviation of 0 leaves z = logits. If
// the sum of the chosen is 0, softmax gives weights of 0. There is one exception: with drop_zero
// the picks that are neither zero experts nor masked share 1 equally (upstream gives NaN). Indices
// are valid and distinct whatever the logits hold. Zero-computation picks collapse to coefficients:
// with a = softmax(input_scale * scores of constant expert c),
//   coefficients[t] = {cx, c_1 .. c_C}: cx = input_scale * (sum of w_copy + sum_c w_c a_0), c_c =
//   w_c a_1.
// FFN picks are sorted by expert, stable in t: token_order[r] = t * K + k for r in
// [expert_offsets[n], expert_offsets[n+1]), where n counts FFN experts alone. No other pick has a
// row. Source: paper, equations for the router and the zero-computation experts; MoE++ reference
// model, top-k gating; transformers, the routers of models with softmax or sigmoid scores.
struct RouteTopKArgs {
  const Tensor* logits;           // [T, E] f32
  const Tensor* constant_scores;  // [T, X] f32, X = 2C; null exactly when C = 0
  const Tensor* selection_bias;   // [E] f32 or null
  Tensor* expert_indices;         // [T, K] i32, the higher choice first
  Tensor* expert_weights;         // [T, K] f32, as used, zero experts included
  Tensor* coefficients;           // [T, C+1] f32
  Tensor* expert_offsets;         // [N+1] i32
  Tensor* token_order;  // [T, K] i32, flat; entries from expert_offsets[N] on are not written
  Tensor* expert_rows;  // [T, K] i32: the r of a pick, or -1 for a zero-computation pick
  ExpertRuns experts;
  Scores scores = Scores::kSoftmax;
  bool normalise = true, drop_zero = false, masked = false;
  int32_t groups = 1, top_groups = 1;
  float norm_std = 0.0f;
  float input_scale = 1.0f;  // 1, or 2 when experts are fed twice the input
  float weight_scale = 1.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.attribute("experts", experts);
    v.in("logits", logits, "T E", DType::kF32);
    if (experts.count(ExpertKind::kConstant) > 0)
      v.in("constant_scores", constant_scores, "T X", DType::kF32);
    v.optional_weight("selection_bias", selection_bias, "E", Layout::kRows);
    v.out("expert_indices", expert_indices, "T K", DType::kI32);
    v.out("expert_weights", expert_weights, "T K", DType::kF32);
    v.out("coefficients", coefficients, "T _", DType::kF32);
    v.out("expert_offsets", expert_offsets, "_", DType::kI32);
    v.out("token_order", token_order, "T K", DType::kI32);
    v.out("expert_rows", expert_rows, "T K", DType::kI32);
    v.attribute("scores", scores);
    v.attribute("normalise", normalise);
    v.attribute("drop_zero", drop_zero);
    v.attribute("masked", masked);
    v.attribute("groups", groups);
    v.attribute("top_groups", top_groups);
    v.attribute("norm_std", norm_std);
    v.attribute("input_scale", input_scale);
    v.attribute("weight_scale", weight_scale);
  }
};

// The work between attention and the experts of a layer with a one-layer router, in one pass over
// the hidden state. router.x is norm.out, router.hidden is null, and route reads router's results.
// Each output equals that of the three ops, on the CPU bit by bit. No program records it: the
// compiler makes it of the three.
struct NormRouteTopKArgs {
  RmsNormArgs norm;
  RouterLogitsArgs router;
  RouteTopKArgs route;

  template <class Visitor>
  void visit(Visitor& v) {
    norm.visit(v);
    router.visit(v);
    route.visit(v);
  }
};

// For each row r of expert n: g = input_scale * weight[n] x[row], summed and rounded as linear
// does. out[r] = g. With swiglu g is F gate columns, then F up columns, and out[r][f] = silu(g[f])
// * g[F + f]. row is token_order[r] / K with token_order, else r. Rows from expert_offsets[N] on
// are neither read nor written.
struct GroupedGemmArgs {
  const Tensor* x;               // [T, I] f32 | bf16 with token_order; [T, K, I] without
  const Tensor* expert_offsets;  // [N+1] i32
  const Tensor* token_order;     // [T, K] i32 or null
  const Tensor* weight;  // [N, O, I] f32 | bf16 | int8 | int4; kMatrix, or kGateUp of [N, 2F, I]
                         // with swiglu
  Tensor* out;           // [T, K, O] f32 | bf16, or [T, K, F]
  float input_scale;
  Activation activation;  // none | swiglu
  bool may_round_x = false;

  template <class Visitor>
  void visit(Visitor& v) {
    v.attribute("input_scale", input_scale);
    v.attribute("activation", activation);
    v.may_round(may_round_x);
    const bool swiglu = activation == Activation::kSwiglu;
    v.optional_in("token_order", token_order, "T K", DType::kI32);
    v.in("x", x, token_order ? "T I" : "T K I", kF32OrBf16);
    v.in("expert_offsets", expert_offsets, "_", DType::kI32);
    v.weight("weight", weight, swiglu ? "N 2F I" : "N F I",
             swiglu ? Layout::kGateUp : Layout::kMatrix);
    v.out("out", out, "T K F", kF32OrBf16);
  }
};

// moe_output[t] = coefficients[t][0] * x[t] + sum_c coefficients[t][1 + c] * constants[c]
//                 + sum over FFN picks k, ascending, of expert_weights[t][k] *
//                 expert_out[expert_rows[t][k]];
// sum = residual + moe_output, or (residual + delta) + moe_output; out = RMSNorm(sum; norm_weight).
// A coefficient of 0 adds nothing (not 0 * infinity).
struct CombineArgs {
  const Tensor* residual;        // [T, H] f32
  const Tensor* delta;           // [T, H] f32 or null
  const Tensor* x;               // [T, H] f32, the layer's normalised input
  const Tensor* expert_out;      // [T, K, H] f32, rows sorted by expert
  const Tensor* coefficients;    // [T, C+1] f32
  const Tensor* expert_weights;  // [T, K] f32
  const Tensor* expert_rows;     // [T, K] i32
  const Tensor* constants;       // [C, H] f32; null exactly when C = 0
  const Tensor* norm_weight;     // [H] f32 or null
  Tensor* moe_output;            // [T, H] f32 or null
  Tensor* sum;                   // [T, H] f32; null, with a norm, when nothing reads it
  Tensor* out;                   // [T, H] f32 | bf16; null exactly when norm_weight is
  float eps = 0.0f;

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("residual", residual, "T H", DType::kF32);
    v.optional_in("delta", delta, "T H", DType::kF32);
    v.in("x", x, "T H", DType::kF32);
    v.in("expert_out", expert_out, "T K H", DType::kF32);
    v.in("coefficients", coefficients, "T _", DType::kF32);
    v.in("expert_weights", expert_weights, "T K", DType::kF32);
    v.in("expert_rows", expert_rows, "T K", DType::kI32);
    v.optional_weight("constants", constants, "C H", Layout::kRows);
    v.optional_weight("norm_weight", norm_weight, "H", Layout::kRows);
    v.optional_out("moe_output", moe_output, "T H", DType::kF32);
    if (norm_weight) {
      v.optional_out("sum", sum, "T H", DType::kF32);
      v.out("out", out, "T H", kF32OrBf16);
      v.attribute("eps", eps);
    } else {
      v.out("sum", sum, "T H", DType::kF32);
    }
  }
};

// out[r] = x[rows[r]].
struct GatherRowsArgs {
  const Tensor* x;     // [T, H] f32
  const Tensor* rows;  // [R] i32, each in [0, T)
  Tensor* out;         // [R, H] f32

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("x", x, "T H", DType::kF32);
    v.in("rows", rows, "R", DType::kI32);
    v.out("out", out, "R H", DType::kF32);
  }
};

// The part of a row of logits that sampling needs, so that the row itself can stay on the device:
//   top_logits[r]   the K largest, descending; equal ones in ascending order of index. A NaN counts
//                   as larger than every number.
//   top_indices[r]  their indices
//   exp_sum[r]      sum_v exp(logits[r][v] - top_logits[r][0]) >= 1, so that the logarithm of the
//                   sum of all exponentials is top_logits[r][0] + log(exp_sum[r]). NaN where a
//                   logit is NaN or +infinity, or all are -infinity. Each exponential is within 2
//                   units in the last place of its f32 argument's, their sum within 2^-22 of its
//                   own.
struct TopLogitsArgs {
  const Tensor* logits;  // [R, V] f32
  Tensor* top_logits;    // [R, K] f32 or null, 1 <= K <= min(V, 256)
  Tensor* top_indices;   // [R, K] i32 or null
  Tensor* exp_sum;       // [R] f32 or null

  template <class Visitor>
  void visit(Visitor& v) {
    v.in("logits", logits, "R V", DType::kF32);
    v.optional_out("top_logits", top_logits, "R K", DType::kF32);
    v.optional_out("top_indices", top_indices, "R K", DType::kI32);
    v.optional_out("exp_sum", exp_sum, "R", DType::kF32);
  }
};

}  // namespace moepp
