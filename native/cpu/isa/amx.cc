// AMX: the AVX-512 kernels, but matrix products with bf16, int8 and int4 weights by tiles.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA amx
#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "isa.h"

namespace moepp::cpu::amx {

#include "../simd.h"
#include "../simd_int8.h"

#include "../kernels/amx_tiles.inl.h"
#include "../kernels/gemm.inl.h"
#include "../kernels/quantised_rows.inl.h"
#include "../kernels/rows.inl.h"
#include "../kernels/quantised_gemm.inl.h"

#include "../kernels/amx_gemm.inl.h"

inline void run_any_gemm(const Gemm& gemm, ThreadPool& pool) {
  if (is_quantised(gemm.dtype)) {
    run_quantised_gemm(gemm, pool);
  } else if (gemm.dtype == DType::kBf16) {
    run_tiles(gemm, pool);
  } else {
    run_gemm(gemm, pool);
  }
}

#include "../kernels/grouped_gemm.inl.h"
#include "../kernels/linear.inl.h"

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels changed = avx512::kernels();
    changed.linear = &linear;
    changed.grouped_gemm = &grouped_gemm;
    return changed;
  }();
  return table;
}

}  // namespace moepp::cpu::amx
