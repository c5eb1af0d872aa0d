#include "isa.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace moepp::cpu {

#if defined(MOEPP_SCALAR)
#elif defined(__x86_64__)

// __builtin_cpu_supports of GCC 12 does not know avxvnni: CPUID leaf 7, subleaf 1, bit 4 of eax. It
// uses what AVX2 uses.
static bool has_avxvnni() {
  unsigned int a = 7, b, c = 1, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (a >> 4 & 1) != 0;
}

#elif defined(__aarch64__)

static bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // every Apple processor that runs macOS
#endif
}

#endif

static Isa isa_of(const char* name, const Kernels& kernels, const Gemms& gemms) {
  return {name, &kernels, &gemms, gemms.rounded[static_cast<int>(DType::kBf16)] != nullptr};
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found;
#if defined(MOEPP_SCALAR)
#elif defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
#if defined(MOEPP_HAS_AMX)
      if (amx::available() && __builtin_cpu_supports("avx512vnni"))
        found.push_back(isa_of("amx", amx::kernels(), amx::gemms()));
#endif
      if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
        found.push_back(isa_of("avx512bf16", avx512bf16::kernels(), avx512bf16::gemms()));
      }
      if (__builtin_cpu_supports("avx512vnni"))
        found.push_back(isa_of("avx512vnni", avx512vnni::kernels(), avx512vnni::gemms()));
      found.push_back(isa_of("avx512", avx512::kernels(), avx512::gemms()));
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      if (has_avxvnni()) found.push_back(isa_of("avxvnni", avxvnni::kernels(), avxvnni::gemms()));
      found.push_back(isa_of("avx2", avx2::kernels(), avx2::gemms()));
    }
#elif defined(__ARM_NEON)
    if (has_dot_product()) found.push_back(isa_of("neondot", neondot::kernels(), neondot::gemms()));
    found.push_back(isa_of("neon", neon::kernels(), neon::gemms()));
#endif
    found.push_back(isa_of("scalar", scalar::kernels(), scalar::gemms()));
    return found;
  }();
  return isas;
}

}  // namespace moepp::cpu
