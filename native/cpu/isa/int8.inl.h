// The kernels of linear and grouped_gemm for int8 and int4 weights once more. They are for
// processors with an instruction for them beyond those of the set MOEPP_BASE. Everything else is
// the base's.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "isa.h"

namespace moepp::cpu::MOEPP_ISA {

#include "../simd.h"
#include "../simd_int8.h"

#include "../kernels/gemm.inl.h"
#include "../kernels/quantised_rows.inl.h"
#include "../kernels/rows.inl.h"
#include "../kernels/quantised_gemm.inl.h"

inline void run_any_gemm(const Gemm& gemm, ThreadPool& pool) {
  run_quantised_gemm(gemm, pool);
}

#include "../kernels/grouped_gemm.inl.h"
#include "../kernels/linear.inl.h"

static void any_linear(const LinearArgs& args, Queue& queue) {
  is_quantised(args.weight->dtype) ? linear(args, queue)
                                   : MOEPP_BASE::kernels().linear(args, queue);
}

static void any_grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  is_quantised(args.weight->dtype) ? grouped_gemm(args, queue)
                                   : MOEPP_BASE::kernels().grouped_gemm(args, queue);
}

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels changed = MOEPP_BASE::kernels();
    changed.linear = &any_linear;
    changed.grouped_gemm = &any_grouped_gemm;
    return changed;
  }();
  return table;
}

}  // namespace moepp::cpu::MOEPP_ISA
