// The reference of products, those of linear and grouped_gemm: one element at a time, in f64 and
// with the bound on an f32 kernel's error.
#pragma once

#include <functional>
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
// exactly, rounds them, or makes them e4m3 with a scale for each 128.
enum class Inputs { kQuantised, kRounded, kExact, kFloat8 };

// A block of up to 128 activations as e4m3 numbers (cuda/kernels/grouped_gemm/sm89_float8.cu).
struct Float8Inputs {
  double number[128];
  float scale;
};
Float8Inputs float8_inputs(const float* x, int64_t count);

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
// float8 weights, which a CPU does not hold, are f32 panels of their values for the references. The
// largest of a block of a row is 448 times the scale.
inline DType panel_dtype(DType dtype) {
  return dtype == DType::kF8 ? DType::kF32 : dtype;
}

// A row of x or of a weight, as a product multiplies it: numbers; or, quantised, integers in blocks
// of 128 with a scale each.
struct Factors {
  std::vector<double> values, scales;
};

// Checks a product's outputs, one element at a time. It keeps the weight's rows that it read last.
class ProductReference {
 public:
  // The output is that of every other activation than swiglu before it.
  ProductReference(const Tensor& weight, Activation activation, Inputs inputs);

  Factors input(const float* x) const;  // [k]
  // Column n of that row of x times the group's weight, times `scale`.
  Bounded element(const Factors& x, int64_t group, int64_t n, double scale);

  // Row r of a product.
  struct Row {
    const float* x;  // [k]
    int64_t group;
  };
  // Returns the first difference in the rows and columns of `out`, or nothing. finish(g, n) is what
  // the op makes of the element.
  std::string check(const Tensor& out, const std::vector<int64_t>& rows,
                    const std::vector<int64_t>& columns, double scale,
                    const std::function<Row(int64_t)>& row,
                    const std::function<Bounded(const Bounded&, int64_t)>& finish);

 private:
  struct Kept {
    int64_t group = -1, row = -1;
    Factors factors;
  };
  const Factors& weight_row(Kept& kept, int64_t group, int64_t row);

  const Tensor weight_;
  const int64_t rows_, k_;
  const bool swiglu_, quantised_, rounded_, float8_;
  Kept gate_, up_;
};

// Check these rows and columns. They return the differences, or nothing.
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
