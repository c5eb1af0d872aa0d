#pragma once

#include "common.h"

namespace moepp {

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
  const Tensor* weight;  // [O, I] f32 | bf16 | int8 | int4 | f8, kMatrix; or [2F, I], kGateUp,
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

inline std::string broken_relation(const LinearArgs& a) {
  if (a.activation != Activation::kNone && a.activation != Activation::kTanh &&
      a.activation != Activation::kSwiglu)
    return "activation must be none, tanh or swiglu";
  return a.activation == Activation::kSwiglu && a.bias != nullptr ? "swiglu takes no bias" : "";
}

}  // namespace moepp
