// One instruction set's kernels: every <op>.inl.h once, in the namespace of the set, compiled with
// its flags.
//
// No standard-library template is used below this point. The linker keeps one copy of an inline
// function for the whole program, and that copy may be the one compiled for AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#include <cmath>
#include <cstdint>

#include "../../kernels.h"
#include "../kv_layout.h"
#include "parallel/tokens.h"
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

#include "gemms.inl.h"

// The kernel of every op: CMakeLists.txt makes this file of the list in ops.h.
#include "op_kernels.inl.h"

const Kernels& kernels() {
  static constexpr Kernels table = {
#define MOEPP_KERNEL(name, Args) name,
      MOEPP_OPS(MOEPP_KERNEL, MOEPP_KERNEL)
#undef MOEPP_KERNEL
  };
  return table;
}

}  // namespace moepp::cpu::MOEPP_ISA
