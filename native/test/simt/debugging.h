// An emulated GPU under the words of MOEPP_CUDA_DEBUG, for as long as it lives.
#pragma once

#include <cstdlib>

#include "opened_device.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

struct Debugging : OtherGpu {
  explicit Debugging(const char* words, const char* gpu = "hopper") {
    setenv("MOEPP_CUDA_DEBUG", words, 1);
    simt::emu::gpu() = simt::emu::gpu_named(gpu);
  }
  ~Debugging() { unsetenv("MOEPP_CUDA_DEBUG"); }
};

}  // namespace moepp::simt_test
#endif
