#pragma once

#include "common.h"

namespace moepp {

// Each head times a matrix of its own:
//
//   for (t = 0; t < T; t++)
//     for (h = 0; h < Hq; h++)
//       for (o = 0; o < O; o++)
//         out[t][h O + o] = dot(weight[h][o], x[t][h D .. h D + I - 1]);
//
// Of a head of D elements the first I are read. Sums and rounding are those of linear. With an
// up-projection W_h as its weight, a query meets latents instead of keys: q (W_h c) = (q W_h) c.
// The mean of latents gives that of values. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.2.
struct HeadLinearArgs {
  const Tensor* x;       // [T, Hq D] f32
  const Tensor* weight;  // [Hq, O, I] f32 | bf16 | int8 | int4, kMatrix
  Tensor* out;           // [T, Hq O] f32
  bool may_round_x = false;

  template <class Visitor>
  void visit(Visitor& v) {
    v.may_round(may_round_x);
    v.in("x", x, "T _", DType::kF32);
    v.weight("weight", weight, "Hq O I", Layout::kMatrix);
    v.out("out", out, "T _", DType::kF32);
  }
};

inline std::string broken_relation(const HeadLinearArgs& a) {
  const int64_t heads = a.weight->shape[0], outputs = a.weight->shape[1],
                inputs = a.weight->shape[2];
  if (heads < 1 || heads > kMostHeads)
    return "weight must have 1 to " + std::to_string(kMostHeads) + " heads";
  if (a.x->shape[1] % heads != 0 || a.x->shape[1] / heads < inputs)
    return "x must have " + std::to_string(heads) + " heads of " + std::to_string(inputs) +
           " or more elements";
  return a.out->shape[1] == heads * outputs
             ? ""
             : "out must have " + std::to_string(heads * outputs) + " columns";
}

}  // namespace moepp
