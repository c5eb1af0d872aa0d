// The products of linear and grouped_gemm on the CPU: rows times the matrices of groups of rows.
// gemm.inc lists the kernels.
#pragma once

#include "host/thread_pool.h"
#include "ops.h"

namespace moepp::cpu {

struct GemmArgs {
  const float* x;         // [., k]
  const int32_t* order;   // row r reads x[order[r] / picks_per_row], or x[r] when null
  int64_t picks_per_row;  // of x
  // 0, or the number of groups. They are the heads of [T, heads, .] then: row r is head r / T of
  // token r % T, in x and in out alike
  int64_t heads;
  int64_t x_stride;  // elements from one row of x to the next; 0: k
  // [groups + 1]: rows offsets[g] .. offsets[g + 1] - 1 are multiplied by the weights of group g
  const int32_t* offsets;
  int64_t groups;
  const char* weight;
  DType dtype;
  int64_t k, panels;  // of each group
  float* out;         // [., columns]
  int64_t columns;
  float scale;        // multiplies the sums
  const float* bias;  // [columns], added to them; null: nothing. Not with swiglu
  Activation activation;
};

// The treatment of x in a product. kRounded: to bf16.
enum class GemmInputs { kExact, kRounded, kQuantised };

using GemmFunction = void (*)(const GemmArgs& args, ThreadPool& pool);

// The kernels of one instruction set, by the weights' dtype; null where there is none.
struct Gemms {
  GemmFunction plain[6];    // x exact, or quantised for int8 and int4 weights
  GemmFunction rounded[6];  // x rounded
};

// The slot of a line of gemm.inc. static: see isa/isa.inl.h.
static inline GemmFunction& gemm_slot(Gemms& gemms, DType weights, GemmInputs x) {
  return (x == GemmInputs::kRounded ? gemms.rounded : gemms.plain)[static_cast<int>(weights)];
}

}  // namespace moepp::cpu
