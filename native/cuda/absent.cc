// In a build without CUDA: what device.h declares of it.
#include "device.h"

namespace moepp {

static constexpr const char* kAbsent = "this build has no CUDA device";

Status open_cuda_device(int index, std::shared_ptr<Device>*) {
  return Status::error(Code::kUnsupported, "cuda:" + std::to_string(index) + ": " + kAbsent);
}

CudaInfo cuda_info() {
  CudaInfo info;
  info.problem = kAbsent;
  return info;
}

Status nccl_version(int*) {
  return Status::error(Code::kUnsupported, kAbsent);
}

}  // namespace moepp
