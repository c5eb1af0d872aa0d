// The GEMMs of int8 and int4 weights once more, for processors with an instruction for them beyond
// those of the set MOEPP_BASE. Everything else is the base's.
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

#include "derived.inl.h"

const Kernels& kernels() {
  static const Kernels table = derived_kernels();
  return table;
}

}  // namespace moepp::cpu::MOEPP_ISA
