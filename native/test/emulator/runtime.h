// The emulated GPU's side of cuda/runtime.h: host memory, and streams that run what they are given
// at once.
#pragma once

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "test/emulator/base.h"
#include "test/emulator/counts.h"
#include "cuda/simt/fault.h"

namespace simt {

namespace emu {

// The answers of a machine with this GPU; tests set it. In tests in JavaScript MOEPP_EMULATED_GPU
// names one of these settings:
//   no-driver, old-driver, no-device, old-gpu
//   mismatched-driver     updated, and the machine was not restarted
//   no-compatibility      libraries for forward compatibility, on a GPU without it
//   not-ready             the fabric manager does not run
//   other-gpu             no code for it
//   turing, hopper        with code for it
//   small                 64 MiB of memory
//   broken                every launch but the first fails
//   hopper-as-ampere      code for sm_80, on Hopper
//   hopper-without-a      code for sm_90, on Hopper: without what sm_90a has
//   lost                  by the 100th kernel
//   lost-while-loading    by the 5th copy
struct Gpu {
  int devices = 1, major = 8, minor = 6, multiprocessors = 2;
  int driver_version = 13000;
  size_t memory_bytes = size_t{8} << 30, block_shared_bytes = 99 << 10;
  bool has_code = true;
  Error driver_error = kSuccess;  // of every call that needs the driver
  // The architecture that the code counts as compiled for, 10 * major + minor, and if that is
  // sm_90a: all there is.
  static constexpr int kAll = 1000;
  int compiled = kAll;
  bool compiled_sm90a = true;
  int launches_left = -1;  // before every launch fails; negative: none does
  // The last kernel and the last copy before a fault; after it every call fails, as CUDA's do when
  // an error is sticky. Negative: there is none.
  int kernels_to_fault = -1, copies_to_fault = -1;
};
Gpu gpu_named(const std::string& setting);
Gpu& gpu();
std::atomic<size_t>& used_bytes();

inline bool is_lost() {
  return gpu().kernels_to_fault == 0 || gpu().copies_to_fault == 0;
}
// Work is asynchronous: the call that hands over what brings the fault succeeds, the next one
// tells.
inline void count_down(int* to_fault) {
  if (*to_fault > 0) --*to_fault;
}

struct StreamState {
  bool capturing = false;
  std::vector<std::function<Error()>> recorded;
};

// Runs `work` now, or keeps it when the stream is being captured.
template <class Work>
Error submit(Stream stream, Work work) {
  if (is_lost()) return kLost;
  auto* state = static_cast<StreamState*>(stream);
  if (state == nullptr || !state->capturing) return work();
  state->recorded.push_back(std::move(work));
  return kSuccess;
}

}  // namespace emu

using Event = int;
using Graph = std::vector<std::function<Error()>>*;

inline int driver_version() {
  return emu::gpu().driver_version;
}
inline int runtime_version() {
  return 13000;
}
inline Fault fault_of(Error error) {
  switch (error) {
    case kSuccess:
      return Fault::kNone;
    case kNoDriver:
      return driver_version() == 0 ? Fault::kNoDriver : Fault::kOldDriver;
    case kMismatchedDriver:
      return Fault::kMismatchedDriver;
    case kNoCompatibility:
      return Fault::kNoCompatibility;
    case kNotReady:
      return Fault::kNotReady;
    case kNoDevice:
      return Fault::kNoDevice;
    case kNoCode:
      return Fault::kNoCode;
    case kOutOfMemory:
      return Fault::kOutOfMemory;
    default:
      return Fault::kOther;
  }
}
inline void clear_error() {}

inline Error count_devices(int* count) {
  if (emu::is_lost()) return kLost;
  if (driver_version() < runtime_version()) return kNoDriver;
  if (emu::gpu().driver_error != kSuccess) return emu::gpu().driver_error;
  *count = emu::gpu().devices;
  return *count > 0 ? kSuccess : kNoDevice;
}
inline Error use_device(int index) {
  if (emu::is_lost()) return kLost;
  return index >= 0 && index < emu::gpu().devices ? kSuccess : kNoDevice;
}
inline Error device_properties(int, DeviceProperties* properties) {
  if (emu::is_lost()) return kLost;
  const emu::Gpu& gpu = emu::gpu();
  *properties = {"emulated GPU", gpu.major, gpu.minor, gpu.multiprocessors, gpu.block_shared_bytes};
  return kSuccess;
}
inline Error memory_info(size_t* free_bytes, size_t* total_bytes) {
  if (emu::is_lost()) return kLost;
  *total_bytes = emu::gpu().memory_bytes;
  *free_bytes = *total_bytes - emu::used_bytes();
  return kSuccess;
}

// The size stands in front of the memory, so that release knows it; 256 bytes keep cudaMalloc's
// alignment.
inline Error allocate(void** data, size_t bytes) {
  if (emu::is_lost()) return kLost;
  constexpr size_t kFront = 256;
  if (bytes > emu::gpu().memory_bytes - emu::used_bytes()) return kOutOfMemory;
  const size_t whole = kFront + (bytes + kFront - 1) / kFront * kFront;
  auto* memory = static_cast<unsigned char*>(std::aligned_alloc(kFront, whole));
  if (memory == nullptr) return kOutOfMemory;
  std::memcpy(memory, &bytes, sizeof bytes);
  emu::used_bytes() += bytes;
  *data = memory + kFront;
  return kSuccess;
}
inline Error release(void* data) {
  if (data == nullptr) return kSuccess;
  unsigned char* memory = static_cast<unsigned char*>(data) - 256;
  size_t bytes;
  std::memcpy(&bytes, memory, sizeof bytes);
  emu::used_bytes() -= bytes;
  std::free(memory);
  return kSuccess;
}
inline Error allocate_host(void** data, size_t bytes) {
  if (emu::is_lost()) return kLost;
  *data = std::malloc(bytes);
  if (*data == nullptr) return kOutOfMemory;
  emu::counts().page_locked++;
  emu::counts().page_locked_now++;
  return kSuccess;
}
inline Error release_host(void* data) {
  if (data != nullptr) emu::counts().page_locked_now--;
  std::free(data);
  return kSuccess;
}

inline Error create_stream(Stream* stream) {
  if (emu::is_lost()) return kLost;
  *stream = new emu::StreamState;
  return kSuccess;
}
inline Error destroy_stream(Stream stream) {
  delete static_cast<emu::StreamState*>(stream);
  return kSuccess;
}
inline Error synchronize(Stream) {
  emu::counts().waits++;
  if (emu::is_lost()) return kLost;
  return kSuccess;
}

inline Error copy_to_device(void* target, const void* source, size_t bytes, Stream stream) {
  return emu::submit(stream, [=] {
    emu::count_down(&emu::gpu().copies_to_fault);
    std::memcpy(target, source, bytes);
    return kSuccess;
  });
}
inline Error copy_to_host(void* target, const void* source, size_t bytes, Stream stream) {
  emu::counts().copies_to_host++;
  return copy_to_device(target, source, bytes, stream);
}
inline Error clear(void* target, size_t bytes, Stream stream) {
  return emu::submit(stream, [=] {
    std::memset(target, 0, bytes);
    return kSuccess;
  });
}

inline Error create_event(Event* event) {
  if (emu::is_lost()) return kLost;
  *event = 0;
  return kSuccess;
}
inline Error destroy_event(Event) {
  return kSuccess;
}
inline Error record_event(Event, Stream) {
  if (emu::is_lost()) return kLost;
  return kSuccess;
}
inline Error wait_for_event(Event) {
  if (emu::is_lost()) return kLost;
  return kSuccess;
}

inline Error begin_capture(Stream stream) {
  if (emu::is_lost()) return kLost;
  static_cast<emu::StreamState*>(stream)->capturing = true;
  return kSuccess;
}
inline Error end_capture(Stream stream, Graph* graph) {
  auto* state = static_cast<emu::StreamState*>(stream);
  state->capturing = false;
  emu::counts().graphs++;
  *graph = new std::vector<std::function<Error()>>(std::move(state->recorded));
  state->recorded.clear();
  return kSuccess;
}
inline Error launch_graph(Graph graph, Stream) {
  if (emu::is_lost()) return kLost;
  for (const auto& work : *graph) {
    const Error error = work();
    if (error != kSuccess) return error;
  }
  return kSuccess;
}
inline Error destroy_graph(Graph graph) {
  delete graph;
  return kSuccess;
}

}  // namespace simt
