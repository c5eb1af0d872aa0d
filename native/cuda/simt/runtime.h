// Host: devices, memory, streams, copies, events and graphs, for the device (cuda/cuda_device.cu).
// These are thin names over the CUDA runtime, which is linked statically. Only the driver is looked
// for when a program runs.
#pragma once

#include "cuda/simt/base.h"
#include "cuda/simt/fault.h"

namespace simt {

using Event = cudaEvent_t;
using Graph = cudaGraphExec_t;

// CUDA versions as 1000 * major + 10 * minor: what the driver supports, 0 without a driver; what
// this build was made with.
inline int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}
inline int runtime_version() {
  return CUDART_VERSION;
}

inline Fault fault_of(Error error) {
  switch (error) {
    case cudaSuccess:
      return Fault::kNone;
    case cudaErrorInsufficientDriver:  // also said when there is no driver at all
      return driver_version() == 0 ? Fault::kNoDriver : Fault::kOldDriver;
    case cudaErrorUnsupportedPtxVersion:
      return Fault::kOldDriver;
    case cudaErrorSystemDriverMismatch:
      return Fault::kMismatchedDriver;
    case cudaErrorCompatNotSupportedOnDevice:
      return Fault::kNoCompatibility;
    case cudaErrorSystemNotReady:
      return Fault::kNotReady;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
      return Fault::kNoDevice;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
      return Fault::kNoCode;
    case cudaErrorMemoryAllocation:
      return Fault::kOutOfMemory;
    default:
      return Fault::kOther;
  }
}
// A failure that is not sticky is reported by one later call again, unless it is cleared.
inline void clear_error() {
  cudaGetLastError();
}

inline Error count_devices(int* count) {
  return cudaGetDeviceCount(count);
}
// Of the calling thread.
inline Error use_device(int index) {
  return cudaSetDevice(index);
}
inline Error device_properties(int index, DeviceProperties* properties) {
  cudaDeviceProp all;
  const Error error = cudaGetDeviceProperties(&all, index);
  if (error != cudaSuccess) return error;
  static_assert(sizeof(properties->name) == sizeof(all.name), "CUDA's own length");
  std::memcpy(properties->name, all.name, sizeof(all.name));
  properties->major = all.major;
  properties->minor = all.minor;
  properties->multiprocessors = all.multiProcessorCount;
  properties->l2_bytes = all.l2CacheSize;
  properties->block_shared_bytes = all.sharedMemPerBlockOptin;
  return cudaSuccess;
}
inline Error memory_info(size_t* free_bytes, size_t* total_bytes) {
  return cudaMemGetInfo(free_bytes, total_bytes);
}

inline Error allocate(void** data, size_t bytes) {
  return cudaMalloc(data, bytes);
}
inline Error release(void* data) {
  return cudaFree(data);
}
// Host memory that copies read and write without the driver's own staging.
inline Error allocate_host(void** data, size_t bytes) {
  return cudaMallocHost(data, bytes);
}
inline Error release_host(void* data) {
  return cudaFreeHost(data);
}

inline Error create_stream(Stream* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
}
inline Error destroy_stream(Stream stream) {
  return cudaStreamDestroy(stream);
}
inline Error synchronize(Stream stream) {
  return cudaStreamSynchronize(stream);
}
// Tells without waiting if the stream has done all its work.
inline Error look(Stream stream, bool* done) {
  const Error error = cudaStreamQuery(stream);
  *done = error != cudaErrorNotReady;
  return *done ? error : cudaSuccess;
}

inline Error copy_to_device(void* target, const void* source, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, stream);
}
inline Error copy_to_host(void* target, const void* source, size_t bytes, Stream stream) {
  return cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, stream);
}
inline Error clear(void* target, size_t bytes, Stream stream) {
  return cudaMemsetAsync(target, 0, bytes, stream);
}

// For the emulation, which watches memory. A piece's content is no longer wanted; an access is a
// fault from here on; it is allowed again. Nothing on a GPU.
inline void forget(void*, size_t, Stream) {}
inline void close_memory(void*, size_t, Stream) {}
inline void open_memory(void*, size_t, Stream) {}

inline Error create_event(Event* event) {
  return cudaEventCreateWithFlags(event, cudaEventDisableTiming);
}
inline Error destroy_event(Event event) {
  return cudaEventDestroy(event);
}
inline Error record_event(Event event, Stream stream) {
  return cudaEventRecord(event, stream);
}
inline Error wait_for_event(Event event) {
  return cudaEventSynchronize(event);
}

// Between begin and end, what is put into the stream is recorded instead of run. A failed end
// leaves no graph.
inline Error begin_capture(Stream stream) {
  return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
}
inline Error end_capture(Stream stream, Graph* graph) {
  cudaGraph_t recorded = nullptr;
  Error error = cudaStreamEndCapture(stream, &recorded);
  if (error == cudaSuccess) error = cudaGraphInstantiate(graph, recorded, 0);
  if (recorded != nullptr) cudaGraphDestroy(recorded);
  return error;
}
inline Error launch_graph(Graph graph, Stream stream) {
  return cudaGraphLaunch(graph, stream);
}
inline Error destroy_graph(Graph graph) {
  return cudaGraphExecDestroy(graph);
}

}  // namespace simt
