// Host memory for copies to and from a GPU.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda/simt/simt.h"
#include "device.h"

namespace moepp::cuda {

// Pieces that lie one behind the other on the device, which are one copy.
struct Stretch {
  std::byte* data = nullptr;
  int64_t bytes = 0;

  explicit Stretch(const std::vector<Transfer>& pieces) {
    if (pieces.empty()) return;
    data = static_cast<std::byte*>(pieces.front().device);
    bytes = static_cast<std::byte*>(pieces.back().device) + pieces.back().bytes - data;
  }
  // The place of a piece in a copy of the stretch.
  std::byte* in(std::byte* copy, const Transfer& piece) const {
    return copy + (static_cast<std::byte*>(piece.device) - data);
  }
};

// Page-locked memory that grows as it is asked for.
class HostMemory {
 public:
  HostMemory() = default;
  ~HostMemory() { reset(); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  simt::Error reserve(int64_t bytes) {
    if (bytes <= bytes_) return simt::kSuccess;
    reset();
    void* data = nullptr;
    const simt::Error error = simt::allocate_host(&data, static_cast<size_t>(bytes));
    if (error != simt::kSuccess) return error;
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
    return simt::kSuccess;
  }
  std::byte* data() const { return data_; }

 private:
  void reset() {
    if (data_ != nullptr) simt::release_host(data_);
    data_ = nullptr;
    bytes_ = 0;
  }
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Two buffers in turn: one is filled while the other is on its way.
class Staging {
 public:
  explicit Staging(simt::Stream stream) : stream_(stream) {}
  ~Staging() {
    simt::synchronize(stream_);
    for (Half& half : halves_) {
      if (half.created) simt::destroy_event(half.sent);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // The buffer to fill, after what was sent from it has arrived.
  simt::Error next(int64_t bytes, std::byte** data) {
    turn_ = 1 - turn_;
    Half& half = halves_[turn_];
    if (half.created) {
      const simt::Error error = simt::wait_for_event(half.sent);
      if (error != simt::kSuccess) return error;
    } else {
      const simt::Error error = simt::create_event(&half.sent);
      if (error != simt::kSuccess) return error;
      half.created = true;
    }
    const simt::Error error = half.memory.reserve(bytes);
    *data = half.memory.data();
    return error;
  }
  simt::Error send(void* target, int64_t bytes) {
    Half& half = halves_[turn_];
    const simt::Error error =
        simt::copy_to_device(target, half.memory.data(), static_cast<size_t>(bytes), stream_);
    return error != simt::kSuccess ? error : simt::record_event(half.sent, stream_);
  }

 private:
  struct Half {
    HostMemory memory;
    simt::Event sent = {};
    bool created = false;
  };
  simt::Stream stream_;
  Half halves_[2];
  int turn_ = 0;
};

}  // namespace moepp::cuda
