// Host memory for copies to and from a GPU.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
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
  static constexpr int64_t kBytes = int64_t{8} << 20;  // of a buffer, or more where one piece is

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
    const simt::Error error = half.memory.reserve(std::max(bytes, kBytes));
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

// The stagings of a device's loads, which may run at once. A load has one to itself and leaves it
// to the next: page-locked memory takes milliseconds to get.
class Stagings {
 public:
  class Lease {
   public:
    Lease(Stagings& all, simt::Stream stream) : all_(all), stream_(stream) {
      const std::lock_guard<std::mutex> lock(all_.mutex_);
      if (all_.idle_.empty()) {
        own_ = std::make_unique<Staging>(stream);
      } else {
        own_ = std::move(all_.idle_.back());
        all_.idle_.pop_back();
      }
    }
    // After a failure, too, nothing may be on its way.
    ~Lease() {
      simt::synchronize(stream_);
      const std::lock_guard<std::mutex> lock(all_.mutex_);
      all_.idle_.push_back(std::move(own_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Staging& staging() { return *own_; }

   private:
    Stagings& all_;
    simt::Stream stream_;
    std::unique_ptr<Staging> own_;
  };

  // Gives back the memory of those that no load has.
  void release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Staging>> idle_;
};

}  // namespace moepp::cuda
