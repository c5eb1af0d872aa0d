// The CUDA device and programs on it.
#pragma once

#include "device_test.h"
#include "program/program.h"

namespace moepp::simt_test {

inline std::unique_ptr<Program> compiled(const std::shared_ptr<Device>& device,
                                         const ProgramSpec& spec) {
  std::unique_ptr<Program> program;
  const Status status = Program::compile(device, spec, {}, &program);
  EXPECT_MESSAGE(status.ok(), status.message);
  return program;
}

inline std::shared_ptr<Device> opened() {
  std::shared_ptr<Device> device;
  const Status status = open_cuda_device(0, &device);
  EXPECT_MESSAGE(status.ok(), status.message);
  return device;
}

#if SIMT_EMULATED
// Another GPU for as long as this lives.
struct OtherGpu {
  simt::emu::Gpu before = simt::emu::gpu();
  ~OtherGpu() { simt::emu::gpu() = before; }
};
#endif

}  // namespace moepp::simt_test
