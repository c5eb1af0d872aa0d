// The emulated GPU's side of cuda/runtime.h. Its memory is the host's; streams.h has its streams.
#pragma once

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "test/emulator/base.h"
#include "test/emulator/counts.h"
#include "test/emulator/devices.h"
#include "test/emulator/streams.h"
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
//   two                   of one kind
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
  int64_t l2_bytes = int64_t{50} << 20;
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

// For AddressSanitizer, to which an access that is not allowed is a fault.
void set_access(const void* data, size_t bytes, bool allowed);

// For ld.global.nc (scheduler.h, is_constant): the host has put these bytes there, zeros without a
// source; or what is there counts no longer.
void host_wrote(const void* target, const void* source, size_t bytes);
void host_forgot(const void* data, size_t bytes);

inline bool is_lost() {
  return gpu().kernels_to_fault == 0 || gpu().copies_to_fault == 0;
}
// Work is asynchronous: the call that hands over what brings the fault succeeds, the next one
// tells.
inline void count_down(int* to_fault) {
  if (*to_fault > 0) --*to_fault;
}

}  // namespace emu

using Event = emu::EventState*;
using Graph = std::vector<emu::Work>*;

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
  if (index < 0 || index >= emu::gpu().devices) return kNoDevice;
  emu::current_device() = index;
  return kSuccess;
}
inline Error device_properties(int, DeviceProperties* properties) {
  if (emu::is_lost()) return kLost;
  const emu::Gpu& gpu = emu::gpu();
  *properties = {"emulated GPU",         gpu.major,   gpu.minor, gpu.multiprocessors,
                 gpu.block_shared_bytes, gpu.l2_bytes};
  return kSuccess;
}
inline Error memory_info(size_t* free_bytes, size_t* total_bytes) {
  if (emu::is_lost()) return kLost;
  *total_bytes = emu::gpu().memory_bytes;
  *free_bytes = *total_bytes - emu::used_bytes();
  return kSuccess;
}

// The size stands in front of the memory, so that release knows it; 256 bytes keep cudaMalloc's
// alignment. The memory ends where AddressSanitizer sees an overrun. It is all ones, a NaN in every
// type.
inline Error allocate(void** data, size_t bytes) {
  if (emu::is_lost()) return kLost;
  if (const Error error = emu::forbid_in_capture()) return error;
  constexpr size_t kFront = 256;
  if (bytes > emu::gpu().memory_bytes - emu::used_bytes()) return kOutOfMemory;
  void* place = nullptr;
  if (posix_memalign(&place, kFront, kFront + bytes) != 0) return kOutOfMemory;
  auto* memory = static_cast<unsigned char*>(place);
  std::memcpy(memory, &bytes, sizeof bytes);
  std::memset(memory + kFront, 0xff, bytes);
  emu::host_forgot(memory + kFront, bytes);
  emu::used_bytes() += bytes;
  *data = memory + kFront;
  emu::keep_memory(*data, bytes, emu::current_device());
  return kSuccess;
}
inline Error release(void* data) {
  if (data == nullptr) return kSuccess;
  if (const Error error = emu::forbid_in_capture()) return error;
  unsigned char* memory = static_cast<unsigned char*>(data) - 256;
  size_t bytes;
  std::memcpy(&bytes, memory, sizeof bytes);
  emu::used_bytes() -= bytes;
  emu::drop_memory(data);
  std::free(memory);
  return kSuccess;
}
inline Error allocate_host(void** data, size_t bytes) {
  if (emu::is_lost()) return kLost;
  if (const Error error = emu::forbid_in_capture()) return error;
  *data = std::malloc(bytes);
  if (*data == nullptr) return kOutOfMemory;
  emu::keep_memory(*data, bytes, emu::kHostMemory);
  emu::counts().page_locked++;
  emu::counts().page_locked_now++;
  return kSuccess;
}
inline Error release_host(void* data) {
  if (data == nullptr) return kSuccess;
  if (const Error error = emu::forbid_in_capture()) return error;
  emu::counts().page_locked_now--;
  emu::drop_memory(data);
  std::free(data);
  return kSuccess;
}

inline Error create_stream(Stream* stream) {
  if (emu::is_lost()) return kLost;
  *stream = emu::new_stream();
  return kSuccess;
}
inline Error destroy_stream(Stream stream) {
  emu::delete_stream(static_cast<emu::StreamState*>(stream));
  return kSuccess;
}
inline Error synchronize(Stream handle) {
  emu::counts().waits++;
  if (emu::is_lost()) return kLost;
  emu::StreamState& stream = emu::stream_of(handle);
  if (const Error error = emu::forbid_in_capture(stream)) return error;
  return emu::wait_until(stream, stream.submitted);
}
// Works only go on in such calls, too.
inline Error look(Stream handle, bool* done) {
  *done = true;
  if (emu::is_lost()) return kLost;
  emu::StreamState& stream = emu::stream_of(handle);
  if (const Error error = emu::forbid_in_capture(stream)) return error;
  return emu::look(stream, done);
}

namespace emu {

inline bool is_page_locked(const void* host) {
  Memory memory;
  return find_memory(host, &memory) && memory.device == kHostMemory;
}

// Written here, in code that the sanitizers see.
inline Error submit_copy(void* target, const void* source, size_t bytes, Stream stream,
                         bool to_device) {
  Work work = {[=] {
    std::memcpy(target, source, bytes);
    if (to_device) host_wrote(target, source, bytes);
    return kSuccess;
  }};
  work.is_copy = true;
  touch(work, target);
  touch(work, source);
  return submit(stream, std::move(work));
}

}  // namespace emu

// Page-locked memory is read when the copy runs. Other memory is read before the call returns, as
// CUDA does: "API synchronization behavior" of its manual.
inline Error copy_to_device(void* target, const void* source, size_t bytes, Stream stream) {
  if (bytes == 0 || emu::is_page_locked(source))
    return emu::submit_copy(target, source, bytes, stream, true);
  if (const Error error = emu::forbid_in_capture(emu::stream_of(stream))) return error;
  const auto* from = static_cast<const unsigned char*>(source);
  emu::Work work = {[target, staged = std::vector<unsigned char>(from, from + bytes)] {
    std::memcpy(target, staged.data(), staged.size());
    emu::host_wrote(target, staged.data(), staged.size());
    return kSuccess;
  }};
  work.is_copy = true;
  emu::touch(work, target);
  return emu::submit(stream, std::move(work));
}
inline Error copy_to_host(void* target, const void* source, size_t bytes, Stream stream) {
  emu::counts().copies_to_host++;
  if (!emu::is_page_locked(target)) {
    if (const Error error = emu::forbid_in_capture(emu::stream_of(stream))) return error;
  }
  return emu::submit_copy(target, source, bytes, stream, false);
}
inline Error clear(void* target, size_t bytes, Stream stream) {
  emu::Work work = {[=] {
    std::memset(target, 0, bytes);
    emu::host_wrote(target, nullptr, bytes);
    return kSuccess;
  }};
  emu::touch(work, target);
  return emu::submit(stream, std::move(work));
}

// All ones, as fresh memory is.
inline void forget(void* data, size_t bytes, Stream stream) {
  emu::note(stream, [=] {
    std::memset(data, 0xff, bytes);
    emu::host_forgot(data, bytes);
  });
}
// Under AddressSanitizer alone.
inline void close_memory(void* data, size_t bytes, Stream stream) {
  emu::note(stream, [=] { emu::set_access(data, bytes, false); });
}
inline void open_memory(void* data, size_t bytes, Stream stream) {
  emu::note(stream, [=] { emu::set_access(data, bytes, true); });
}

inline Error create_event(Event* event) {
  if (emu::is_lost()) return kLost;
  *event = new emu::EventState;
  (*event)->device = emu::current_device();
  return kSuccess;
}
inline Error destroy_event(Event event) {
  delete event;
  return kSuccess;
}
inline Error record_event(Event event, Stream handle) {
  if (emu::is_lost()) return kLost;
  emu::StreamState& stream = emu::stream_of(handle);
  if (event->device != stream.device) return kInvalidHandle;
  const int device = event->device;
  *event = {&stream, stream.submitted, stream.capturing, device};
  return kSuccess;
}
inline Error wait_for_event(Event event) {
  if (emu::is_lost()) return kLost;
  if (event->captured) {
    emu::forbid_in_capture(*event->stream);
    return kCapturedEvent;
  }
  if (const Error error = emu::forbid_in_capture()) return error;
  return event->stream == nullptr ? kSuccess : emu::wait_until(*event->stream, event->position);
}

inline Error begin_capture(Stream stream) {
  if (emu::is_lost()) return kLost;
  return emu::begin_capture(emu::stream_of(stream));
}
inline Error end_capture(Stream stream, Graph* graph) {
  std::vector<emu::Work> recorded;
  const Error error = emu::end_capture(emu::stream_of(stream), &recorded);
  if (error != kSuccess) return error;
  emu::counts().graphs++;
  *graph = new std::vector<emu::Work>(std::move(recorded));
  return kSuccess;
}
// The kernel at its beginning waits for all before the graph, as one that is not programmatic.
inline Error launch_graph(Graph graph, Stream stream) {
  if (emu::is_lost()) return kLost;
  bool first = true;
  for (emu::Work work : *graph) {
    work.call.early = work.call.early && !first;
    first = false;
    if (const Error error = emu::submit(stream, std::move(work))) return error;
  }
  return kSuccess;
}
inline Error destroy_graph(Graph graph) {
  delete graph;
  return kSuccess;
}

}  // namespace simt
