// Memory that ops work on and references look at, over the interface that programs use (device.h).
// A device with memory of its own has one copy, the host another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "device.h"
#include "fields.h"

namespace moepp::test {

// Ends the test or the bench that called it, not the program.
struct Failure : std::runtime_error {
  explicit Failure(const Status& status) : std::runtime_error(status.message), code(status.code) {}
  Code code;
};
void must(const Status& status);  // throws Failure where it is not ok

// One step; the device is free again whatever fails.
void run_step(Device& device, const std::function<Status()>& work);

// Host memory, aligned to 64 bytes; large ones to 2 MiB and on huge pages where the system gives
// them, as the device's own.
class Buffer {
 public:
  explicit Buffer(size_t bytes, unsigned char content = 0);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_, alignment_;
};

class Block;

// Guarded memory lies between margins that nothing may read or write, and starts as poison: for f32
// a NaN. Else it starts as zeros.
constexpr unsigned char kPoison = 0xff;
enum class Guard : bool { kNone, kMargins };

class Arena {
 public:
  explicit Arena(std::shared_ptr<Device> device, Guard guard = Guard::kNone)
      : guard(guard), device_(std::move(device)) {}

  Device& device() const { return *device_; }
  const Kernels& kernels() const { return device_->kernels(); }
  // All blocks that live.
  const std::vector<Block*>& blocks() const { return blocks_; }

  // The arguments as the references take them: in host memory, after all that was put into the
  // queue. Weights are in the CPU's order, as is the cache, whose only layer is the op's. They live
  // until the next call.
  template <class Args>
  Args on_host(Args args) {
    fetch();
    each_field(args, [&](const Field&, Tensor*& t) { t = twin(*t); });
    each_op(args, [&](auto& op) {
      if constexpr (HasCache<std::decay_t<decltype(op)>>::value) {
        if (device_->uses_callers_memory()) return;
        op.cache = twin_of_layer(*op.cache, op.layer);
        op.layer = 0;
      }
    });
    return args;
  }

  // Brings what the device has written to the host's copies.
  void fetch();

  // The block that holds the address, or null.
  Block* block_of(const void* data) const;

  const Guard guard;

 private:
  friend class Block;
  template <class Args, class = void>
  struct HasCache : std::false_type {};
  template <class Args>
  struct HasCache<Args, std::void_t<decltype(Args::cache)>> : std::true_type {};

  Tensor* twin(const Tensor& tensor);
  const KvView* twin_of_layer(const KvView& cache, int64_t layer);

  std::shared_ptr<Device> device_;
  std::vector<Block*> blocks_;
  std::deque<Tensor> twins_;
  std::deque<KvView> twin_caches_;
  std::deque<Buffer> twin_pages_;
};

// host_bytes: where the references' order of elements takes another number of bytes; 0: it is the
// device's order.
class Block {
 public:
  Block(Arena& arena, int64_t bytes, int64_t host_bytes = 0);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::byte* device() const { return device_; }
  std::byte* host() const { return host_.as<std::byte>() + margin_; }
  int64_t bytes() const { return bytes_; }
  bool same_order() const { return same_order_; }
  void upload() { upload(host(), 0, bytes_); }
  // to: bytes from the block's beginning
  void upload(const std::byte* from, int64_t to, int64_t bytes);
  // to device memory, which the host's may be
  void write(const std::byte* from, int64_t to, int64_t bytes);
  void download();  // not where the order of elements differs
  // The device's bytes, wherever they are; as many are written.
  std::vector<unsigned char> content() const;
  void write(const std::vector<unsigned char>& bytes) {
    write(reinterpret_cast<const std::byte*>(bytes.data()), 0, bytes_);
  }
  void poison();  // all of it, on host and device
  bool margins_intact() const;

 private:
  bool is_shared() const;  // host and device are one memory
  void copy(const std::byte* from, std::byte* to, int64_t bytes, bool up) const;
  void close_margins(bool closed) const;

  Arena& arena_;
  int64_t bytes_, margin_;
  bool same_order_;
  Buffer host_;
  std::byte* device_;
};

}  // namespace moepp::test
