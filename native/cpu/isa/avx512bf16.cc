// avx512vnni's kernels, with two kinds replaced by vdpbf16ps. Attention over a bf16 cache rounds
// its queries and weights to bf16, too. So do products with bf16 weights where an op lets x be
// rounded.
//
// Like isa.inl.h, this file uses no standard-library templates.
#define MOEPP_ISA avx512bf16
#define MOEPP_BASE avx512vnni
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

#include "derived.inl.h"

const Kernels& kernels() {
  static const Kernels table = [] {
    Kernels changed = derived_kernels();
    changed.attention = &attention;
    return changed;
  }();
  return table;
}

}  // namespace moepp::cpu::avx512bf16
