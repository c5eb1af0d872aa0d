// The references of linear and grouped_gemm, one element at a time, in f64 and with the bound on an
// f32 kernel's error.
#pragma once

#include <vector>

#include "compare.h"
#include "cpu/isa/isa.h"
#include "ops.h"

namespace moepp::test {

// Element [row, k] of group `group` of a weight in panels ([O, I], or [N, O, I]).
double panel_element(const Tensor& weight, int64_t group, int64_t row, int64_t k);

// A block of up to 128 activations as the GEMMs of int8 and int4 weights take it
// (cpu/kernels/quantised_rows.inl.h).
struct QuantisedInputs {
  int64_t q[128];
  float scale;
};
QuantisedInputs quantise_inputs(const float* x, int64_t count);

// A product's treatment of its activations. kAsOp: a CPU quantises them for int8 and int4 weights.
// kRounded: it also rounds them to bf16 for bf16 weights whose op lets it. A GPU takes them
// exactly.
enum class Inputs { kQuantised, kRounded, kExact };

// The kinds of products that linear and grouped_gemm are tested with: a weight's type, and whether
// the op lets x be rounded.
struct GemmKind {
  DType dtype;
  bool may_round_x = false;

  // Of k inputs.
  Inputs inputs(const cpu::Isa& isa, int64_t k) const {
    return may_round_x && isa.multiplies_pairs && k <= kMostRoundedInputs ? Inputs::kRounded
                                                                          : Inputs::kQuantised;
  }
  std::string name() const {
    return std::string(dtype_name(dtype)) + (may_round_x ? ", x may be rounded," : "");
  }
};
constexpr GemmKind kGemmKinds[] = {
    {DType::kF32}, {DType::kBf16}, {DType::kBf16, true}, {DType::kI8}, {DType::kI4}};

Bounded linear_element(const LinearArgs& args, int64_t t, int64_t n,
                       Inputs inputs = Inputs::kQuantised);
// r < expert_offsets[N].
Bounded grouped_gemm_element(const GroupedGemmArgs& args, int64_t r, int64_t n,
                             Inputs inputs = Inputs::kQuantised);

// Checks every row, or only those given; `columns` likewise. Returns the differences, or nothing.
std::string check_linear(const LinearArgs& args, const std::vector<int64_t>& rows,
                         const std::vector<int64_t>& columns, Inputs inputs = Inputs::kQuantised);
std::string check_grouped_gemm(const GroupedGemmArgs& args, const std::vector<int64_t>& rows,
                               const std::vector<int64_t>& columns,
                               Inputs inputs = Inputs::kQuantised);

// About `count` of the indices [0, n), evenly spread, the first and the last among them; all of
// them when n <= count.
std::vector<int64_t> sample(int64_t n, int64_t count);

// Weights that are exact in dtype (int8 and int4: of all values and scales). They are packed
// element by element as panels.h says, with the fixed sequence of `seed`.
void fill_panels(void* dst, DType dtype, Layout layout, int64_t groups, int64_t rows, int64_t k,
                 uint32_t seed, float scale);

}  // namespace moepp::test
