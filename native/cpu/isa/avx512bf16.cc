// avx512vnni's kernels, but attention over a bf16 cache by vdpbf16ps: queries and weights are rounded to bf16, too.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA avx512bf16
#include <immintrin.h>

#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "../kv_layout.h"
#include "../thread_pool.h"
#include "isa.h"

namespace moepp::cpu::avx512bf16 {

#include "../simd.h"

#include "../kernels/attention.inl.h"

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels changed = avx512vnni::kernels();
    changed.attention = &attention;
    return changed;
  }();
  return table;
}

}  // namespace moepp::cpu::avx512bf16
