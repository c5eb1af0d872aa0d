#pragma once

#include <memory>
#include <tuple>

#include "test/emulator/launches.h"
#include "test/emulator/limits.h"
#include "test/emulator/runtime.h"
#include "test/emulator/scheduler.h"

namespace simt {

struct Launch {
  dim3 grid, block;
  size_t smem_bytes = 0;
  Stream stream = nullptr;
  bool programmatic = false;
  bool cooperative = false;
  unsigned cluster = 1;
};

// Padding holds what its memory held before, perhaps an address that touch_arguments() would find.
// clang has no such function.
template <class T>
void clear_padding([[maybe_unused]] T& value) {
#if defined(__GNUC__) && !defined(__clang__)
  __builtin_clear_padding(&value);
#endif
}

// The kernel runs when its stream does (streams.h).
template <class... Parameters, class... Arguments>
Error launch(void (*kernel)(Parameters...), const Launch& how, Arguments&&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return kSuccess;
  if (emu::is_lost()) return kLost;
  const auto address = reinterpret_cast<emu::Kernel>(kernel);
  emu::GridCall shape = {how.grid, how.block, how.smem_bytes, how.programmatic, how.cooperative};
  shape.early = how.programmatic;
  shape.cluster = how.cluster;
  const Error refused = emu::check_launch(address, emu::stream_of(how.stream).device, &shape);
  if (refused != kSuccess) return refused;
  if (emu::gpu().launches_left == 0) return kLaunchFailed;
  emu::count_down(&emu::gpu().launches_left);
  if (how.programmatic) emu::counts().programmatic++;
  if (how.cooperative) emu::counts().cooperative++;
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  auto call = std::make_shared<Call>(
      Call{kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)});
  shape.entry = [](void* p) {
    const auto* c = static_cast<const Call*>(p);
    std::apply(c->kernel, c->arguments);
  };
  shape.argument = call.get();
  emu::Work work = {nullptr, shape, address, call};
  std::apply([](auto&... each) { (clear_padding(each), ...); }, call->arguments);
  emu::touch_arguments(work, &call->arguments, sizeof call->arguments);
  return emu::submit(how.stream, std::move(work));
}

template <class... Parameters>
Error find_code(void (*)(Parameters...)) {
  if (emu::is_lost()) return kLost;
  return emu::gpu().has_code ? kSuccess : kNoCode;
}

inline const char* error_text(Error error) {
  switch (error) {
    case kSuccess:
      return "no error";
    case kLaunchFailed:
      return emu::gpu().launches_left == 0 ? "the emulated GPU is set to fail"
                                           : emu::last_failure().c_str();
    case kCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case kCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case kCaptureWrongThread:
      return "attempt to terminate a thread-local capture sequence from another thread";
    case kCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    case kInvalidHandle:
    case kTooLarge:
    case kInvalidValue:
    case kInvalidConfiguration:
    case kOutOfResources:
      return emu::last_failure().c_str();
    case kNoDriver:
      return "no driver, or one that is too old";
    case kMismatchedDriver:
      return "the driver's parts do not match";
    case kNoCompatibility:
      return "no forward compatibility";
    case kNotReady:
      return "the system is not ready";
    case kNoDevice:
      return "no such device";
    case kOutOfMemory:
      return "out of memory";
    case kNoCode:
      return "no code for this GPU";
    case kLost:
      return "the emulated GPU was lost";
  }
  return "?";
}

}  // namespace simt
