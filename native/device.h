// A device: its kernels, its queue, and memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "status.h"
#include "weight_spec.h"

namespace moepp {

namespace parallel {
class Group;
}

// Progress and cancellation of a long call, seen from both sides.
struct Control {
  std::atomic<int64_t>* done_bytes = nullptr;
  const std::atomic<int64_t>* cancelled = nullptr;

  bool is_cancelled() const {
    return cancelled != nullptr && cancelled->load(std::memory_order_relaxed) != 0;
  }
  void add(int64_t bytes) const {
    if (done_bytes != nullptr) done_bytes->fetch_add(bytes, std::memory_order_relaxed);
  }
};

struct DeviceInfo {
  std::string name;  // "cpu", "cuda:0"
  std::string isa;  // the instruction set in use, "avx512"; of a GPU what its kernels were compiled
                    // for, "sm_90a"
  int threads = 1;
  std::string model;  // the processor's own name
  // Of a device with memory of its own, now; else 0.
  int64_t free_bytes = 0, total_bytes = 0;
  // Of a GPU: what MOEPP_CUDA_DEBUG holds.
  std::vector<std::string> debug = {};
  int multiprocessors = 0;
};

// A piece of a step's data on its way between a device and the host.
struct Transfer {
  void* device;
  void* host;
  int64_t bytes;
};

// A piece of device memory.
struct Piece {
  std::byte* data = nullptr;
  int64_t bytes = 0;
};

// The memory of one op in a step: all of the step's, and what the op reads and writes of it.
struct OpMemory {
  Piece step;
  std::vector<Piece> reads, writes;
};

// A device's recording of a step, to be run again.
class Recording {
 public:
  virtual ~Recording() = default;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual DeviceInfo info() const = 0;
  virtual const Kernels& kernels() const = 0;
  virtual Queue& queue() = 0;

  // Zeroed memory, aligned to 64 bytes at least; null when there is none.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* data, int64_t bytes) = 0;
  // The fault after which nothing works any more, or ok. A GPU's fault lasts as long as the
  // process.
  virtual Status fault() const { return {}; }

  // Bytes of a weight in a layout, and its loading from the checkpoint's files into memory of that
  // size.
  virtual int64_t weight_bytes(const WeightSpec& spec, Layout layout) const = 0;
  virtual Status load_weight(const WeightSpec& spec, Layout layout, void* data,
                             const Control& control) = 0;

  // Bytes of a packed weight; and its loading from a mapped file, unless uses_mapped_weights().
  virtual int64_t packed_bytes(const WeightSpec& spec, Layout layout) const {
    return weight_bytes(spec, layout);
  }
  virtual Status load_packed(const WeightSpec& spec, Layout, const std::byte*, void*,
                             const Control&) {
    return Status::error(Code::kUnsupported,
                         spec.name + " is packed, but " + info().name + " takes no packed weights");
  }

  // After the weights of a program: gives back what only loading needs. Other programs may still be
  // loading.
  virtual void end_loading() {}

  // Copies one page of every layer.
  virtual Status copy_page(const KvView& cache, int64_t from, int64_t to) = 0;

  // One page of one layer as f32: of each head the keys [S, D], then the values [S, Dv]. State
  // files hold pages in this order, and tests look into the cache. Not during a step.
  virtual Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) = 0;
  // The inverse. Values that the cache's type cannot hold are rounded.
  virtual Status write_page(const KvView& cache, int64_t layer, int64_t page,
                            const float* values) = 0;

  // True if kernels read float8 weights.
  virtual bool holds_float8() const { return false; }
  // True if kernels read packed weights where a file's mapping holds them. The device's own order
  // in memory is then that of packed weights.
  virtual bool uses_mapped_weights() const { return true; }
  // True if kernels read a step's inputs and write its results in the caller's memory. Then nothing
  // is uploaded or downloaded.
  virtual bool uses_callers_memory() const { return true; }
  // True if a kernel has ended when its call returns. Then nothing is recorded.
  virtual bool runs_at_once() const { return true; }

  // True if the kernel of a product of these sizes rounds x to bf16, and reads it as bf16 with the
  // same results. The tensors have no memory yet. A device that says so writes every kF32OrBf16
  // field (ops.h) as its tensor's dtype says.
  virtual bool reads_bf16(const LinearArgs&) const { return false; }
  virtual bool reads_bf16(const GroupedGemmArgs&) const { return false; }
  // True if the kernel rounds x to bf16, whether or not it can read it as bf16: rows of x may then
  // travel as bf16.
  virtual bool rounds_x(const GroupedGemmArgs& args) const { return reads_bf16(args); }

  // Opens what carries rows to the devices of the group's other ranks, which all do it. A device
  // whose kernels run in host memory needs nothing: rows are messages of the group.
  virtual Status join(parallel::Group&) { return {}; }

  // A step: begin_step and upload, kernels or a replay, launched after each kernel, download,
  // end_step. Pieces of an upload or a download lie one behind the other on the device, in order.
  // Results are there when end_step returns ok, and host memory is not touched after it. A
  // begin_step that fails has begun nothing; after any other comes end_step, whatever failed in
  // between.
  virtual Status begin_step() { return {}; }
  virtual Status upload(const std::vector<Transfer>&) { return {}; }
  virtual Status launched() { return {}; }  // the failure of a launch since the last call
  virtual Status download(const std::vector<Transfer>&) { return {}; }
  virtual Status end_step() { return {}; }

  // For a device that watches what kernels touch, as the emulated GPU does. The bytes that it wants
  // between the buffers of a step, a multiple of 64; 0: it does not watch.
  virtual int64_t watched_gap() const { return 0; }
  // Before each op's kernels: until the next call they may touch nothing else of the step's memory,
  // and what they write holds nothing yet.
  virtual void watch(const OpMemory&) {}

  // Before each op's kernels: a hint, which changes no result.
  virtual void look_ahead(const WeightAhead&) {}

  // Records what `enqueue` puts into the queue instead of running it.
  virtual Status record(const std::function<Status()>& enqueue, std::unique_ptr<Recording>*) {
    return enqueue();
  }
  virtual Status replay(const Recording&) { return {}; }
};

// "cpu", or "cuda:0" to "cuda:99".
bool is_device_name(const std::string& name);

// The device of that name. `threads` and `isa` are the CPU's.
Status open_device(const std::string& name, int threads, const std::string& isa,
                   std::shared_ptr<Device>* device);

// threads 0: as many as the process may use. isa "": the fastest one.
Status open_cpu_device(int threads, const std::string& isa, std::shared_ptr<Device>* device);

// kNoGpu, kDriverTooOld, kGpuTooOld; kUnsupported in a build without CUDA, or without kernels for
// this GPU.
Status open_cuda_device(int index, std::shared_ptr<Device>* device);

// A build's knowledge of CUDA here, without starting anything on a GPU.
struct CudaInfo {
  bool built = false;
  int runtime_version = 0, driver_version = 0;  // 1000 * major + 10 * minor; 0: none
  int devices = 0;
  std::string problem;  // why no device can be used, or empty
  // Matrix products that this process launched, by kernel (cuda::GemmKernel): for tests.
  std::vector<int64_t> products;
};
CudaInfo cuda_info();
// The version of the NCCL that is found, as 10000 * major + 100 * minor + patch; kUnsupported
// without one.
Status nccl_version(int* version);
// Of such a version: "13.0".
inline std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Device memory with an owner.
class Memory {
 public:
  Memory() = default;
  static Status allocate(std::shared_ptr<Device> device, int64_t bytes, const std::string& what,
                         Memory* memory);
  // Host memory that is not to be written and lives as long as `owner`.
  static Memory shared(std::shared_ptr<const void> owner, const std::byte* data, int64_t bytes);
  ~Memory() { reset(); }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void reset();
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Device> device_;  // or
  std::shared_ptr<const void> owner_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// The KV cache of one model on one device: bytes only; which page is whose is decided in
// TypeScript.
class KvCache {
 public:
  static Status create(std::shared_ptr<Device> device, KvView shape,
                       std::shared_ptr<KvCache>* cache);
  const KvView& view() const { return view_; }
  Status copy_page(int64_t from, int64_t to);
  Status read_page(int64_t layer, int64_t page, float* out);
  Status write_page(int64_t layer, int64_t page, const float* values);

 private:
  Status check_page(const char* call, int64_t layer, int64_t page) const;

  std::shared_ptr<Device> device_;
  Memory memory_;
  KvView view_;
};

}  // namespace moepp
