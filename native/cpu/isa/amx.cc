// AMX: the AVX-512 kernels, but matrix products with bf16, int8 and int4 weights by tiles.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA amx
#define MOEPP_BASE avx512
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

#include "derived.inl.h"

const Kernels& kernels() {
  static const Kernels table = derived_kernels();
  return table;
}

}  // namespace moepp::cpu::amx
