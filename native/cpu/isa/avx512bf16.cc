// avx512vnni's kernels, with two kinds replaced by vdpbf16ps. Attention over a bf16 cache rounds
// its queries and weights to bf16, too. So do products with bf16 weights where an op lets x be
// rounded.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA avx512bf16
#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "../kv_layout.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "isa.h"

namespace moepp::cpu::avx512bf16 {

#include "../simd.h"

#include "../kernels/attention.inl.h"
#include "../kernels/gemm.inl.h"

inline void run_any_gemm(const Gemm& gemm, ThreadPool& pool) {
  run_gemm(gemm, pool);
}

#include "../kernels/grouped_gemm.inl.h"
#include "../kernels/linear.inl.h"

template <class Args>
static bool rounds(const Args& args) {
  const Tensor& weight = *args.weight;
  return args.may_round_x && weight.dtype == DType::kBf16 &&
         weight.shape[weight.rank - 1] <= kMostRoundedInputs;
}

static void any_linear(const LinearArgs& args, Queue& queue) {
  rounds(args) ? linear(args, queue) : avx512vnni::kernels().linear(args, queue);
}

static void any_grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  rounds(args) ? grouped_gemm(args, queue) : avx512vnni::kernels().grouped_gemm(args, queue);
}

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels changed = avx512vnni::kernels();
    changed.attention = &attention;
    changed.linear = &any_linear;
    changed.grouped_gemm = &any_grouped_gemm;
    return changed;
  }();
  return table;
}

}  // namespace moepp::cpu::avx512bf16
