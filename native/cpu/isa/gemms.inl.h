// The lines of gemm.inc that name this set, over its base's: CMakeLists.txt makes own_gemms.inl.h
// of them.
const Gemms& gemms() {
  static const Gemms table = [] {
#if defined(MOEPP_BASE)
    Gemms found = MOEPP_BASE::gemms();
#else
    Gemms found = {};
#endif
#define MOEPP_GEMM(set, weights, x, function) \
  gemm_slot(found, DType::weights, GemmInputs::x) = &function;
#include "own_gemms.inl.h"
#undef MOEPP_GEMM
    return found;
  }();
  return table;
}

inline void run_any_gemm(const GemmArgs& gemm, bool may_round_x, ThreadPool& pool) {
  const int weights = static_cast<int>(gemm.dtype);
  const GemmFunction rounded =
      may_round_x && gemm.k <= kMostRoundedInputs ? gemms().rounded[weights] : nullptr;
  (rounded != nullptr ? rounded : gemms().plain[weights])(gemm, pool);
}
