#include "cuda/simt/emu/runtime.h"

#include <string>

namespace simt::emu {

static Gpu named_gpu() {
  const char* setting = std::getenv("MOEPP_EMULATED_GPU");
  const std::string name = setting != nullptr ? setting : "";
  Gpu gpu;
  if (name == "no-driver") gpu.driver_version = 0;
  if (name == "old-driver") gpu.driver_version = 12040;
  if (name == "mismatched-driver") gpu.driver_error = kMismatchedDriver;
  if (name == "no-compatibility") gpu.driver_error = kNoCompatibility;
  if (name == "not-ready") gpu.driver_error = kNotReady;
  if (name == "no-device") gpu.devices = 0;
  if (name == "old-gpu") gpu.major = 7, gpu.minor = 0;
  if (name == "small") gpu.memory_bytes = size_t{64} << 20;
  if (name == "broken") gpu.broken = true;
  if (name == "other-gpu") gpu.major = 11, gpu.minor = 0, gpu.has_code = false;
  if (name == "hopper") gpu.major = 9, gpu.minor = 0, gpu.block_shared_bytes = 227 << 10;
  if (name == "lost") gpu.kernels_to_fault = 100;
  if (name == "lost-while-loading") gpu.copies_to_fault = 5;
  return gpu;
}

Gpu& gpu() {
  static Gpu gpu = named_gpu();
  return gpu;
}

std::atomic<size_t>& used_bytes() {
  static std::atomic<size_t> bytes{0};
  return bytes;
}

HostMemory& host_memory() {
  static HostMemory memory;
  return memory;
}

std::atomic<int>& copies_to_host() {
  static std::atomic<int> copies{0};
  return copies;
}

std::atomic<int>& made_graphs() {
  static std::atomic<int> graphs{0};
  return graphs;
}

}  // namespace simt::emu
