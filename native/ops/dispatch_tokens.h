#pragma once

#include <vector>

#include "common.h"
#include "expert_runs.h"
#include "step_inputs.h"

namespace moepp {

// W ranks share out the FFN experts of a layer. Each token's row goes to the ranks that hold the
// experts it picked, once to a rank, and the rows of other ranks' tokens come. The picks are those
// of route_top_k. A pick of FFN expert n goes to rank destinations[n]. The experts here are
// held[0..L), as in their stack of weights. The ranks have P tokens together.
//
//   for each rank w, ascending:              // they go to w
//     for (t = 0; t < T; t++) {
//       picks = the k, ascending, where expert_rows[t][k] >= 0 and destinations[FFN expert] == w
//       if (picks) send w: x[t] and the experts of picks
//       sent_picks += expert_rows[t][k] for k in picks
//     }
//     sent_offsets[w + 1] = length of sent_picks
//   for each rank w, ascending:              // they came from w
//     for each row of w: rows[p] = it; its picks are (p, j = 0, 1, ..)
// The picks that came are sorted by their place in `held`, stable, as route_top_k sorts its own:
// token_order[r] = p * K + j for r in [expert_offsets[l], expert_offsets[l + 1]). received_picks
// has the r of each, in the order in which they came, those of rank w from received_offsets[w] on.
// So grouped_gemm runs over the rows as over a step of P tokens, and collect_tokens brings its
// results back. Rows behind the last that came, and entries behind the last pick, are not written.
// Rows travel as bf16 if the experts' product would round them to that (Device::rounds_x).
struct DispatchTokensArgs {
  const Tensor* x;               // [T, H] f32
  const Tensor* expert_indices;  // [T, K] i32, of route_top_k
  const Tensor* expert_rows;     // [T, K] i32, of route_top_k
  Tensor* rows;                  // [P, H] f32 | bf16
  Tensor* expert_offsets;        // [L+1] i32
  Tensor* token_order;           // [P, K] i32
  Tensor* sent_picks;            // [T, K] i32, flat
  Tensor* sent_offsets;          // [W+1] i32
  Tensor* received_picks;        // [P, K] i32, flat
  Tensor* received_offsets;      // [W+1] i32
  ExpertRuns experts;
  std::vector<int32_t> destinations, held;
  Ranks ranks;
  bool sends_bf16 = false;  // the program sets it before each step

  template <class Visitor>
  void visit(Visitor& v) {
    v.ranks(ranks);
    v.attribute("experts", experts);
    v.attribute("destinations", destinations);
    v.attribute("held", held);
    v.in("x", x, "T H", DType::kF32);
    v.in("expert_indices", expert_indices, "T K", DType::kI32);
    v.in("expert_rows", expert_rows, "T K", DType::kI32);
    v.out("rows", rows, "P H", kF32OrBf16);
    v.out("expert_offsets", expert_offsets, "_", DType::kI32);
    v.out("token_order", token_order, "P K", DType::kI32);
    v.out("sent_picks", sent_picks, "T K", DType::kI32);
    v.out("sent_offsets", sent_offsets, "_", DType::kI32);
    v.out("received_picks", received_picks, "P K", DType::kI32);
    v.out("received_offsets", received_offsets, "_", DType::kI32);
  }
};

inline std::string broken_list(const char* name, const std::vector<int32_t>& list, int64_t limit) {
  for (const int32_t number : list) {
    if (number >= limit)
      return std::string(name) + " has " + std::to_string(number) + ", expected 0 to " +
             std::to_string(limit - 1);
  }
  return {};
}

inline std::string broken_offsets(const char* name, const Tensor& offsets, int64_t count) {
  if (offsets.rank == 1 && offsets.shape[0] == count + 1) return {};
  return std::string(name) + " must be [" + std::to_string(count + 1) + "]";
}

inline std::string broken_relation(const DispatchTokensArgs& a) {
  const int64_t ffn = a.experts.count(ExpertKind::kFfn), chosen = a.expert_rows->shape[1],
                held = static_cast<int64_t>(a.held.size());
  if (chosen < 1 || chosen > kMostChosen)
    return "tokens have 1 to " + std::to_string(kMostChosen) + " picks";
  if (static_cast<int64_t>(a.destinations.size()) != ffn)
    return "destinations are " + std::to_string(a.destinations.size()) + ", expected " +
           std::to_string(ffn) + ", as there are FFN experts";
  if (held < 1) return "held must name an expert";
  std::string broken = broken_list("destinations", a.destinations, a.ranks.count);
  if (broken.empty()) broken = broken_list("held", a.held, ffn);
  if (broken.empty()) broken = broken_offsets("expert_offsets", *a.expert_offsets, held);
  if (broken.empty()) broken = broken_offsets("sent_offsets", *a.sent_offsets, a.ranks.count);
  if (broken.empty())
    broken = broken_offsets("received_offsets", *a.received_offsets, a.ranks.count);
  for (int64_t n = 0; broken.empty() && n < ffn; n++) {
    if (a.destinations[n] != a.ranks.own) continue;
    bool is_held = false;
    for (const int32_t expert : a.held) is_held = is_held || expert == n;
    if (!is_held) broken = "expert " + std::to_string(n) + " is not held by its own destination";
  }
  return broken;
}

// Picks of FFN experts have rows, and no others.
inline std::string step_fault(const DispatchTokensArgs& a, StepInputs& inputs) {
  const int64_t picks = a.expert_rows->elements(), chosen = a.expert_rows->shape[1];
  if (a.rows->shape[0] < a.x->shape[0])
    return "P is " + std::to_string(a.rows->shape[0]) + ", expected at least the " +
           std::to_string(a.x->shape[0]) + " tokens of this rank";
  if (a.rows->shape[0] > INT32_MAX / chosen)
    return "P is " + std::to_string(a.rows->shape[0]) + ", expected at most " +
           std::to_string(INT32_MAX / chosen) + " tokens of " + std::to_string(chosen) + " picks";
  if (!inputs.has(a.expert_indices) && !inputs.has(a.expert_rows)) return {};
  for (int64_t i = 0; i < picks; i++) {
    const int32_t expert = a.expert_indices->i32()[i], row = a.expert_rows->i32()[i];
    if (expert < 0 || expert >= a.experts.experts || row < -1 || row >= picks ||
        (row >= 0) != (a.experts.kind_of(expert) == ExpertKind::kFfn))
      return "pick " + std::to_string(i) + " is of expert " + std::to_string(expert) + " in row " +
             std::to_string(row) + ", which do not fit";
  }
  return {};
}

}  // namespace moepp
