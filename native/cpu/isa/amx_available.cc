#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isa.h"

namespace moepp::cpu::amx {

// Source: Intel SDM, CPUID leaf 7 (amx-bf16, amx-tile, amx-int8) and XCR0; Linux,
// Documentation/arch/x86/xstate.rst.
static constexpr unsigned kOsSavesStates = 1u << 27;                         // leaf 1, ecx
static constexpr unsigned kTileBits = (1u << 22) | (1u << 24) | (1u << 25);  // leaf 7, edx
static constexpr unsigned kTileStates = (1u << 17) | (1u << 18);  // XCR0: configuration, data
static constexpr long kRequestState = 0x1023, kTileData = 18;     // arch_prctl

static bool processor_has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsSavesStates) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTileBits) != kTileBits) return false;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileStates) == kTileStates;
}

bool available() {
  static const bool granted =
      processor_has_tiles() && syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
  return granted;
}

}  // namespace moepp::cpu::amx
#endif
