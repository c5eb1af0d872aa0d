// The arrays of the tests. Each has a copy on the host and one on the device. One of the two is
// current: the device's while kernels run, else the host's. The emulation keeps two, too, and fills
// the other one with junk. So there, as on a GPU, a kernel cannot work on the host's.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/simt/simt.h"

namespace moepp::simt_test {

class Copies;
inline std::vector<Copies*>& live_copies() {
  static std::vector<Copies*> live;
  return live;
}

// Both copies of an array, by bytes. Each has an address, even of an array of nothing.
class Copies {
 public:
  explicit Copies(size_t bytes)
      : bytes_(bytes),
        device_(allocate(std::max<size_t>(bytes, 1))),
        host_(new unsigned char[bytes + 1]) {  // its end is no other array's beginning
    live_copies().push_back(this);
  }
  ~Copies() {
    std::vector<Copies*>& live = live_copies();
    live.erase(std::find(live.begin(), live.end(), this));
  }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;

  void* host() const { return host_.get(); }
  void* device() const { return device_.get(); }

  simt::Error to_device() {
    const simt::Error error = simt::copy_to_device(device(), host(), bytes_, nullptr);
    forget(host());
    return error;
  }
  simt::Error to_host() {
    expect_untouched(host());
    simt::Error error = simt::copy_to_host(host(), device(), bytes_, nullptr);
    if (error == simt::kSuccess) error = simt::synchronize(nullptr);
    forget(device());
    return error;
  }

  // Null if p points neither into the copy, nor to its end.
  void* address_of_host(const void* p) const {
    const size_t offset = offset_in(host(), p);
    return offset <= bytes_ ? device_.get() + offset : nullptr;
  }
  void* address_of_device(const void* p) const {
    const size_t offset = offset_in(device(), p);
    return offset <= bytes_ ? device_.get() + offset : nullptr;
  }

 private:
#if SIMT_EMULATED
  // Exactly as many bytes, so that AddressSanitizer sees an overrun.
  static simt::Error take(void** data, size_t bytes) {
    const bool fits = bytes <= simt::emu::gpu().memory_bytes;
    return fits && posix_memalign(data, 64, bytes) == 0 ? simt::kSuccess : simt::kOutOfMemory;
  }
  static void give_back(void* data) {
    std::free(data);
  }
  static constexpr unsigned char kJunk = 0xff;  // NaN, or -1
  void forget(void* copy) const {
    std::memset(copy, kJunk, bytes_);
  }
  void expect_untouched(const void* copy) const {
    const auto* bytes = static_cast<const unsigned char*>(copy);
    if (std::any_of(bytes, bytes + bytes_, [](unsigned char byte) { return byte != kJunk; }))
      throw std::logic_error("a kernel wrote to the host's copy of an array");
  }
#else
  static simt::Error take(void** data, size_t bytes) {
    return simt::allocate(data, bytes);
  }
  static void give_back(void* data) {
    simt::release(data);
  }
  void forget(void*) const {}
  void expect_untouched(const void*) const {}
#endif
  static size_t offset_in(const void* copy, const void* p) {
    return reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(copy);
  }
  // Without memory the test ends, and fails with this message.
  static unsigned char* allocate(size_t bytes) {
    void* data = nullptr;
    const simt::Error error = take(&data, bytes);
    if (error != simt::kSuccess) {
      throw std::runtime_error("no device memory for an array of " + std::to_string(bytes) +
                               " bytes: " + simt::error_text(error));
    }
    return static_cast<unsigned char*>(data);
  }

  struct GiveBack {
    void operator()(void* data) const { give_back(data); }
  };
  size_t bytes_;
  std::unique_ptr<unsigned char, GiveBack> device_;
  std::unique_ptr<unsigned char[]> host_;
};

// An array of n elements. It is read and written as the host's; kernels get its device addresses.
template <class T>
class Shared {
 public:
  static_assert(std::is_trivially_copyable_v<T>, "copied as bytes");

  explicit Shared(size_t n, T value = T{})
      : copies_(std::make_unique<Copies>(n * sizeof(T))),
        data_(static_cast<T*>(copies_->host())),
        size_(n) {
    std::fill_n(data_, n, value);
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* device() const { return static_cast<T*>(copies_->device()); }

 private:
  std::unique_ptr<Copies> copies_;
  T* data_;
  size_t size_;
};

// A kernel's argument: a pointer into an array as the device's, all else as it is.
template <class T>
T on_device(const T& argument) {
  if constexpr (std::is_pointer_v<T>) {
    if (argument == nullptr) return argument;
    for (const Copies* copies : live_copies()) {
      if (void* address = copies->address_of_host(argument)) return static_cast<T>(address);
    }
    for (const Copies* copies : live_copies()) {
      if (void* address = copies->address_of_device(argument)) return static_cast<T>(address);
    }
    throw std::logic_error("a kernel's argument points to no array of the tests");
  } else {
    return argument;
  }
}

// Calls body, which launches kernels and returns an error, with all arrays on the device. The first
// error; kernels have ended.
template <class Body>
simt::Error run_on_device(const Body& body) {
  simt::Error first = simt::kSuccess;
  const auto note = [&](simt::Error error) {
    if (first == simt::kSuccess) first = error;
  };
  for (Copies* copies : live_copies()) note(copies->to_device());
  if (first == simt::kSuccess) note(body());
  note(simt::synchronize(nullptr));
  for (Copies* copies : live_copies()) note(copies->to_host());
  note(simt::synchronize(nullptr));
  return first;
}

}  // namespace moepp::simt_test
