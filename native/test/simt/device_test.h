// Shared by the tests of this folder. They are written once and run under the emulation, or
// compiled by nvcc on a GPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/simt/simt.h"
#include "test.h"

// A namespace of their own: in one program with the CPU's tests (moepp-native), their helpers and
// cases have the same names.
namespace moepp::test {}
namespace moepp::simt_test {

using namespace test;

// n elements that host and device both see; exactly as many, so that AddressSanitizer sees an
// overrun.
template <class T>
class Shared {
 public:
  explicit Shared(size_t n, T value = T{}) : size_(n) {
#if SIMT_EMULATED
    data_ = static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64));
    own_.reset(static_cast<unsigned char*>(static_cast<void*>(data_)));
#else
    if (cudaMallocManaged(&data_, n * sizeof(T)) != cudaSuccess) data_ = nullptr;
    own_.reset(reinterpret_cast<unsigned char*>(data_));
#endif
    for (size_t i = 0; i < n; i++) data_[i] = value;
  }
  T* data() {
    return data_;
  }
  const T* data() const {
    return data_;
  }
  size_t size() const {
    return size_;
  }
  T& operator[](size_t i) {
    return data_[i];
  }
  const T& operator[](size_t i) const {
    return data_[i];
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const {
#if SIMT_EMULATED
      std::free(p);
#else
      cudaFree(p);
#endif
    }
  };
  std::unique_ptr<unsigned char, Free> own_;
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Empty when the kernel ran to its end.
template <class... Parameters, class... Arguments>
std::string run_kernel(void (*kernel)(Parameters...), const simt::Launch& how,
                       Arguments&&... arguments) {
  const simt::Error error = simt::launch(kernel, how, static_cast<Arguments&&>(arguments)...);
  if (error != simt::kSuccess) return simt::error_text(error);
#if !SIMT_EMULATED
  const simt::Error end = cudaDeviceSynchronize();
  if (end != simt::kSuccess) return simt::error_text(end);
#endif
  return {};
}

#define EXPECT_RUNS(...)                                                   \
  do {                                                                     \
    const std::string text_ = ::moepp::simt_test::run_kernel(__VA_ARGS__); \
    if (!text_.empty()) ::moepp::test::fail(__FILE__, __LINE__, text_);    \
  } while (0)

// The body once per schedule of the emulation; once on a GPU.
template <class Body>
void for_each_schedule(const Body& body) {
#if SIMT_EMULATED
  using simt::emu::Async;
  using simt::emu::Order;
  const simt::emu::Options before = simt::emu::options;
  for (Async async : {Async::kLazy, Async::kEager}) {
    for (Order order : {Order::kForward, Order::kReverse, Order::kRandom}) {
      simt::emu::options = {order, async, 7};
      body();
    }
  }
  simt::emu::options = before;
#else
  body();
#endif
}

// 10 * major + minor of the GPUs that the tests stand for: the card's own. The emulation has the
// instructions of all, and takes the kernels of Ampere and of Hopper. MOEPP_EMULATED_GPU may set it
// to one card with code for it alone.
inline std::vector<int> compute_capabilities() {
#if SIMT_EMULATED
  if (simt::emu::gpu().compiled <= 120) return {simt::compiled_capability()};
  return {80, 90};
#else
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  return {10 * major + minor};
#endif
}
inline int newest_capability() {
  return compute_capabilities().back();
}
inline bool has_tma() {
  return newest_capability() >= 90;
}
inline bool has_wgmma() {
  return newest_capability() == 90;
}

// Small integers, exact in every type here, so that sums of products are exact in any order.
inline int small_integer(size_t i, unsigned seed) {
  const unsigned mixed = static_cast<unsigned>(i) * 2654435761u + seed * 40503u;
  return static_cast<int>((mixed >> 13) % 15u) - 7;
}

}  // namespace moepp::simt_test
