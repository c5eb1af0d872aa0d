#pragma once

#include "dispatch_tokens.h"

namespace moepp {

// The way back of dispatch_tokens: the experts' rows go to the ranks whose tokens they are of, and
// those of this rank's tokens come.
//
//   for each rank w, ascending:
//     send w: received_out[received_picks[i]] for i in [received_offsets[w], received_offsets[w+1])
//   for each rank w, ascending:
//     for i in [sent_offsets[w], sent_offsets[w+1]): expert_out[sent_picks[i]] = the next row of w
// A row travels for each pick, in f32. combine adds them in the order of the picks: a sum for each
// rank would have other bits.
struct CollectTokensArgs {
  const Tensor* received_out;      // [P, K, H] f32, rows sorted by expert
  const Tensor* sent_picks;        // [T, K] i32, as the next three of dispatch_tokens
  const Tensor* sent_offsets;      // [W+1] i32
  const Tensor* received_picks;    // [P, K] i32
  const Tensor* received_offsets;  // [W+1] i32
  Tensor* expert_out;              // [T, K, H] f32; rows without an FFN pick are not written
  Ranks ranks;

  template <class Visitor>
  void visit(Visitor& v) {
    v.ranks(ranks);
    v.in("received_out", received_out, "P K H", DType::kF32);
    v.in("sent_picks", sent_picks, "T K", DType::kI32);
    v.in("sent_offsets", sent_offsets, "_", DType::kI32);
    v.in("received_picks", received_picks, "P K", DType::kI32);
    v.in("received_offsets", received_offsets, "_", DType::kI32);
    v.out("expert_out", expert_out, "T K H", DType::kF32);
  }
};

inline std::string broken_relation(const CollectTokensArgs& a) {
  const std::string broken = broken_offsets("sent_offsets", *a.sent_offsets, a.ranks.count);
  return broken.empty() ? broken_offsets("received_offsets", *a.received_offsets, a.ranks.count)
                        : broken;
}

// Of picks that a step brings: offsets within the picks, and picks within the rows.
inline std::string bad_exchange(const char* name, const Tensor& picks, const Tensor& offsets) {
  const int32_t* ends = offsets.i32();
  const int64_t ranks = offsets.shape[0] - 1, rows = picks.elements();
  bool fits = ends[0] == 0 && ends[ranks] <= rows;
  for (int64_t w = 0; w < ranks; w++) fits = fits && ends[w] <= ends[w + 1];
  for (int64_t i = 0; fits && i < ends[ranks]; i++)
    fits = picks.i32()[i] >= 0 && picks.i32()[i] < rows;
  return fits ? ""
              : std::string(name) + " must be below " + std::to_string(rows) +
                    ", and their offsets ascend from 0 to at most that";
}

inline std::string step_fault(const CollectTokensArgs& a, StepInputs& inputs) {
  std::string fault;
  if (inputs.has(a.sent_offsets) || inputs.has(a.sent_picks))
    fault = bad_exchange("sent_picks", *a.sent_picks, *a.sent_offsets);
  if (fault.empty() && (inputs.has(a.received_offsets) || inputs.has(a.received_picks)))
    fault = bad_exchange("received_picks", *a.received_picks, *a.received_offsets);
  return fault;
}

}  // namespace moepp
