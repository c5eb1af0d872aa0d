#include "isa.h"

namespace moepp::cpu {

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
      found.push_back({"avx512", &avx512::kernels()});
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back({"avx2", &avx2::kernels()});
#elif defined(__ARM_NEON)
    found.push_back({"neon", &neon::kernels()});
#endif
    found.push_back({"scalar", &scalar::kernels()});
    return found;
  }();
  return isas;
}

}  // namespace moepp::cpu
