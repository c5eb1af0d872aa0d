// The architecture that the running code counts as compiled for: all, or the one that tests set
// (runtime.h, Gpu).
#pragma once

#include "test/emulator/scheduler.h"

namespace simt {

namespace emu {

// 10 * major + minor; and with what sm_90a has.
int code_capability();
bool code_has_sm90a();

}  // namespace emu

#define SIMT_HAS_SM80 (::simt::emu::code_capability() >= 80)
#define SIMT_HAS_SM90 (::simt::emu::code_capability() >= 90)
#define SIMT_HAS_SM90A (::simt::emu::code_has_sm90a())

#define SIMT_REQUIRES(feature) \
  if (!(feature))              \
    ::simt::unsupported();     \
  else

// The trap of code that was compiled for less.
[[noreturn]] inline void unsupported(SIMT_AT) {
  emu::fail(at, "not compiled for this: the code is that of sm_%d", emu::code_capability());
}

namespace emu {

// In a wrapper: whose instruction exists since `has`.
inline void require(bool has, Site at) {
  if (!has) unsupported(at);
}

}  // namespace emu

// Of the code that the GPU at hand takes. Newer code than it does not run there.
int compiled_capability();
bool compiled_for_sm90a();

}  // namespace simt
