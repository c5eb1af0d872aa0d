#pragma once

#include "common.h"

namespace moepp {

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

inline std::string broken_relation(const TopLogitsArgs& a) {
  if (a.logits->shape[1] < 1) return "a row of logits must have one at least";
  for (const Tensor* top : {a.top_logits, a.top_indices}) {
    if (top != nullptr &&
        (top->shape[1] < 1 || top->shape[1] > 256 || top->shape[1] > a.logits->shape[1]))
      return "the largest logits are 1 to 256, and no more than there are";
  }
  return {};
}

}  // namespace moepp
