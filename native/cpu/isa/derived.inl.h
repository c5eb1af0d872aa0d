// The end of a set that has MOEPP_BASE's kernels, but GEMMs of its own.
#include "gemms.inl.h"

#include "../kernels/grouped_gemm.inl.h"
#include "../kernels/head_linear.inl.h"
#include "../kernels/linear.inl.h"

inline Kernels derived_kernels() {
  Kernels changed = MOEPP_BASE::kernels();
  changed.linear = &linear;
  changed.head_linear = &head_linear;
  changed.grouped_gemm = &grouped_gemm;
  return changed;
}
