#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace moepp::cpu {

#if defined(MOEPP_SCALAR)
#elif defined(__x86_64__)

// Zeros where the processor has no such leaf.
struct Registers {
  unsigned a, b, c, d;
};
static Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r = {};
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

static bool bit(unsigned word, int number) {
  return (word >> number & 1) != 0;
}

// Sets that the processor has, and whose registers the system saves. Source: Intel SDM, CPUID and
// XGETBV. (Not every compiler's library has what __builtin_cpu_supports reads.)
struct X86Features {
  bool avx2, avxvnni, avx512, avx512vnni, avx512bf16;
};
static X86Features x86_features() {
  const Registers first = cpuid(1, 0);
  if (!bit(first.c, 27)) return {};  // OSXSAVE
  unsigned saved, upper;
  __asm__("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
  const Registers more = cpuid(7, 0), last = more.a >= 1 ? cpuid(7, 1) : Registers();
  X86Features has = {};
  has.avx2 = (saved & 0x6) == 0x6 && bit(more.b, 5) && bit(first.c, 12);  // with FMA
  has.avxvnni = has.avx2 && bit(last.a, 4);
  const bool foundation = bit(more.b, 16), dq = bit(more.b, 17), bw = bit(more.b, 30),
             vl = bit(more.b, 31);
  has.avx512 = has.avx2 && (saved & 0xe0) == 0xe0 && foundation && dq && bw && vl;
  has.avx512vnni = has.avx512 && bit(more.c, 11);
  has.avx512bf16 = has.avx512vnni && bit(last.a, 5);
  return has;
}

#elif defined(__aarch64__)

struct ArmFeatures {
  bool dot_product, i8mm, bf16;
};

#if defined(__linux__)
// Bits of Linux's interface (asm/hwcap.h), whose older headers lack the last two.
static ArmFeatures arm_features() {
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  return {(first >> 20 & 1) != 0, (second >> 13 & 1) != 0, (second >> 14 & 1) != 0};
}
#elif defined(__APPLE__)
static bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
static ArmFeatures arm_features() {
  return {has("hw.optional.arm.FEAT_DotProd"), has("hw.optional.arm.FEAT_I8MM"),
          has("hw.optional.arm.FEAT_BF16")};
}
#else
static ArmFeatures arm_features() {
  return {};
}
#endif

#endif

static Isa isa_of(const char* name, const Kernels& kernels, const Gemms& gemms) {
  return {name, &kernels, &gemms, gemms.rounded[static_cast<int>(DType::kBf16)] != nullptr};
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found;
#if defined(MOEPP_SCALAR)
#elif defined(__x86_64__)
    const X86Features has = x86_features();
#if defined(MOEPP_HAS_AMX)
    if (has.avx512vnni && amx::available())
      found.push_back(isa_of("amx", amx::kernels(), amx::gemms()));
#endif
    if (has.avx512bf16)
      found.push_back(isa_of("avx512bf16", avx512bf16::kernels(), avx512bf16::gemms()));
    if (has.avx512vnni)
      found.push_back(isa_of("avx512vnni", avx512vnni::kernels(), avx512vnni::gemms()));
    if (has.avx512) found.push_back(isa_of("avx512", avx512::kernels(), avx512::gemms()));
    if (has.avxvnni) found.push_back(isa_of("avxvnni", avxvnni::kernels(), avxvnni::gemms()));
    if (has.avx2) found.push_back(isa_of("avx2", avx2::kernels(), avx2::gemms()));
#elif defined(__ARM_NEON)
    const ArmFeatures has = arm_features();
    if (has.dot_product && has.i8mm && has.bf16)
      found.push_back(isa_of("neonbf16", neonbf16::kernels(), neonbf16::gemms()));
    if (has.dot_product && has.i8mm)
      found.push_back(isa_of("neoni8mm", neoni8mm::kernels(), neoni8mm::gemms()));
    if (has.dot_product) found.push_back(isa_of("neondot", neondot::kernels(), neondot::gemms()));
    found.push_back(isa_of("neon", neon::kernels(), neon::gemms()));
#endif
    found.push_back(isa_of("scalar", scalar::kernels(), scalar::gemms()));
    return found;
  }();
  return isas;
}

}  // namespace moepp::cpu
