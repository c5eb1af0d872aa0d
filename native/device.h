// A device: its kernels, its queue, and memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels.h"
#include "spec.h"
#include "status.h"

namespace moepp {

// Progress and cancellation of a long call, seen from both sides.
struct Control {
  std::atomic<int64_t>* done_bytes = nullptr;
  const std::atomic<int64_t>* cancelled = nullptr;

  bool is_cancelled() const { return cancelled != nullptr && cancelled->load(std::memory_order_relaxed) != 0; }
  void add(int64_t bytes) const {
    if (done_bytes != nullptr) done_bytes->fetch_add(bytes, std::memory_order_relaxed);
  }
};

struct DeviceInfo {
  std::string name;  // "cpu"
  std::string isa;   // the instruction set in use
  int threads = 1;
  std::string model;  // the processor's own name
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

  // Bytes of a weight in a layout, and its loading from the checkpoint's files into memory of that size.
  virtual int64_t weight_bytes(const WeightSpec& spec, Layout layout) const = 0;
  virtual Status load_weight(const WeightSpec& spec, Layout layout, void* data, const Control& control) = 0;

  // Copies one page of every layer.
  virtual void copy_page(const KvView& cache, int64_t from, int64_t to) = 0;

  // One page of one layer as f32 [Hkv, 2, S, D], keys then values of each head: how tests look into the cache.
  virtual void read_page(const KvView& cache, int64_t layer, int64_t page, float* out) const = 0;
};

// threads 0: as many as the process may use. isa "": the best one.
Status open_cpu_device(int threads, const std::string& isa, std::shared_ptr<Device>* device);

// Device memory with an owner.
class Memory {
 public:
  Memory() = default;
  static Status allocate(std::shared_ptr<Device> device, int64_t bytes, const std::string& what, Memory* memory);
  ~Memory() { reset(); }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void reset();
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  int64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// The KV cache of one model on one device: bytes only; which page is whose is decided in TypeScript.
class KvCache {
 public:
  static Status create(std::shared_ptr<Device> device, KvView shape, std::shared_ptr<KvCache>* cache);
  const KvView& view() const { return view_; }
  Status copy_page(int64_t from, int64_t to);
  Status read_page(int64_t layer, int64_t page, float* out) const;

 private:
  std::shared_ptr<Device> device_;
  Memory memory_;
  KvView view_;
};

}  // namespace moepp
