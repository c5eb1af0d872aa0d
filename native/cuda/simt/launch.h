// Starting a kernel. Nothing here allocates or waits, so that launches can be captured in a graph.
#pragma once

#include "cuda/simt/base.h"

namespace simt {

struct Launch {
  dim3 grid, block;       // a grid of no blocks is no launch; block sizes are multiples of 32
  size_t smem_bytes = 0;  // dynamic shared memory, up to what the device has
  Stream stream = nullptr;
  // may start before the kernel ahead of it ends: see wait_for_dependencies (sm_90)
  bool programmatic = false;
  // all blocks run at once, so they may wait for each other; a grid that does not fit is refused
  bool cooperative = false;
};

// Lets a kernel have as much shared memory as the device gives a block. It is always the same: two
// threads that launch one kernel with different sizes must not lower each other's limit.
inline Error allow_all_shared_memory(const void* kernel) {
  int device = 0, bytes = 0;
  Error error = cudaGetDevice(&device);
  if (error == kSuccess)
    error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != kSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

template <class... Parameters, class... Arguments>
Error launch(void (*kernel)(Parameters...), const Launch& how, Arguments&&... arguments) {
  if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return kSuccess;
  if (how.smem_bytes > 48 * 1024) {  // the most that a kernel may have unasked
    const Error error = allow_all_shared_memory(reinterpret_cast<const void*>(kernel));
    if (error != kSuccess) return error;
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (how.programmatic) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (how.cooperative) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = how.grid;
  config.blockDim = how.block;
  config.dynamicSmemBytes = how.smem_bytes;
  config.stream = how.stream;
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// True if this build has code of the kernel for the thread's device: Fault::kNoCode if not.
template <class... Parameters>
Error find_code(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel));
}

inline const char* error_text(Error error) {
  return cudaGetErrorString(error);
}

}  // namespace simt
