// AMX: the AVX-512 kernels, but matrix products with bf16 weights by tiles.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA amx
#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "../panels.h"
#include "../thread_pool.h"
#include "isa.h"

namespace moepp::cpu::amx {

#include "../simd.h"

#include "../kernels/gemm.inl.h"
#include "../kernels/grouped_gemm.inl.h"
#include "../kernels/linear.inl.h"

#include "../kernels/amx_tiles.inl.h"

#include "../kernels/amx_gemm.inl.h"

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels kernels = avx512::kernels();
    kernels.linear = &tile_linear;
    kernels.grouped_gemm = &tile_grouped_gemm;
    return kernels;
  }();
  return table;
}

}  // namespace moepp::cpu::amx
