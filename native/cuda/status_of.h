// A call's error as the status that a user understands.
#pragma once

#include <string>

#include "cuda/simt/simt.h"
#include "device.h"
#include "status.h"

namespace moepp::cuda {

inline Status status_of(simt::Error error, const std::string& device) {
  if (error == simt::kSuccess) return {};
  simt::clear_error();
  switch (simt::fault_of(error)) {
    case simt::Fault::kNoDriver:
      return Status::error(Code::kNoGpu, device + ": there is no NVIDIA driver on this machine");
    case simt::Fault::kOldDriver:
      return Status::error(Code::kDriverTooOld, device + ": the NVIDIA driver supports CUDA " +
                                                    cuda_version_text(simt::driver_version()) +
                                                    ", this build needs CUDA " +
                                                    cuda_version_text(simt::runtime_version()) +
                                                    " (driver 580 or newer)");
    case simt::Fault::kMismatchedDriver:
      return Status::error(Code::kDevice,
                           device +
                               ": the NVIDIA driver was updated, and the old one is still "
                               "loaded; restart the machine");
    case simt::Fault::kNoCompatibility:
      return Status::error(Code::kDriverTooOld,
                           device +
                               ": CUDA's forward-compatibility libraries are in use, which do "
                               "not support this GPU; install driver 580 or newer, and take "
                               "their folder (cuda-compat) out of LD_LIBRARY_PATH");
    case simt::Fault::kNotReady:
      return Status::error(Code::kDevice,
                           device +
                               ": the NVIDIA driver is not ready; a machine with NVSwitch "
                               "needs nvidia-fabricmanager, running, of the driver's version");
    case simt::Fault::kNoDevice:
      return Status::error(Code::kNoGpu, device + ": " + simt::error_text(error));
    case simt::Fault::kOutOfMemory:
      return Status::error(Code::kOutOfMemory, device + ": out of memory");
    case simt::Fault::kNone:
    case simt::Fault::kNoCode:
    case simt::Fault::kOther:
      break;
  }
  return Status::error(Code::kDevice, device + ": " + simt::error_text(error));
}

inline Status too_little_shared_memory(const std::string& device,
                                       const simt::DeviceProperties& properties, size_t needed) {
  return Status::error(Code::kUnsupported,
                       device + ": " + properties.name + " has " +
                           std::to_string(properties.block_shared_bytes) +
                           " bytes of shared memory for a block, a model of these sizes needs " +
                           std::to_string(needed));
}

}  // namespace moepp::cuda
