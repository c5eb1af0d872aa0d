// MOEPP_BASE's kernels, with two kinds replaced by products of pairs of bf16. Attention over a bf16
// cache rounds its queries and weights to bf16, too. So do products with bf16 weights where an op
// lets x be rounded.
//
// Like isa.inl.h, this file uses no standard-library templates.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "../kv_layout.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "isa.h"

namespace moepp::cpu::MOEPP_ISA {

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

}  // namespace moepp::cpu::MOEPP_ISA
