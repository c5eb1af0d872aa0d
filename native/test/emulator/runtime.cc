#include "test/emulator/runtime.h"

#include "test/emulator/compiled.h"

#include <string>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt::emu {

Gpu gpu_named(const std::string& name) {
  Gpu gpu;
  if (name == "no-driver") gpu.driver_version = 0;
  if (name == "old-driver") gpu.driver_version = 12040;
  if (name == "mismatched-driver") gpu.driver_error = kMismatchedDriver;
  if (name == "no-compatibility") gpu.driver_error = kNoCompatibility;
  if (name == "not-ready") gpu.driver_error = kNotReady;
  if (name == "no-device") gpu.devices = 0;
  if (name == "old-gpu") gpu.major = 7, gpu.minor = 0;
  if (name == "two") gpu.devices = 2;
  if (name == "small") gpu.memory_bytes = size_t{64} << 20;
  if (name == "broken") gpu.launches_left = 1;
  if (name == "other-gpu") gpu.major = 11, gpu.minor = 0, gpu.has_code = false;
  if (name == "turing") {
    gpu.major = 7, gpu.minor = 5, gpu.block_shared_bytes = 64 << 10;
    gpu.compiled = 75;
  }
  if (name.compare(0, 6, "hopper") == 0) {
    gpu.major = 9, gpu.minor = 0, gpu.block_shared_bytes = 227 << 10;
    if (name == "hopper-as-ampere") gpu.compiled = 80;
    if (name == "hopper-without-a") gpu.compiled_sm90a = false;
  }
  if (name == "lost") gpu.kernels_to_fault = 100;
  if (name == "lost-while-loading") gpu.copies_to_fault = 5;
  return gpu;
}

Gpu& gpu() {
  static const char* const setting = std::getenv("MOEPP_EMULATED_GPU");
  static Gpu gpu = gpu_named(setting != nullptr ? setting : "");
  return gpu;
}

int code_capability() {
  return gpu().compiled;
}
bool code_has_sm90a() {
  return gpu().compiled >= 90 && gpu().compiled_sm90a;
}

std::atomic<size_t>& used_bytes() {
  static std::atomic<size_t> bytes{0};
  return bytes;
}

void set_access([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes,
                [[maybe_unused]] bool allowed) {
#if defined(__SANITIZE_ADDRESS__)
  if (allowed) {
    ASAN_UNPOISON_MEMORY_REGION(data, bytes);
  } else {
    ASAN_POISON_MEMORY_REGION(data, bytes);
  }
#endif
}

Counts& counts() {
  static Counts counts;
  return counts;
}

}  // namespace simt::emu

namespace simt {

int compiled_capability() {
  const int device = 10 * emu::gpu().major + emu::gpu().minor, code = emu::gpu().compiled;
  return code < device ? code : device;
}
bool compiled_for_sm90a() {
  return emu::code_has_sm90a() && compiled_capability() == 90;
}

}  // namespace simt
