// Shared by the tests of this folder. They are written once and run under the emulation, or
// compiled by nvcc on a GPU.
#pragma once

#include <string>
#include <vector>

#include "cuda/cuda_queue.h"
#include "cuda/simt/simt.h"
#include "device.h"
#include "device_memory.h"
#include "test.h"

// A namespace of their own: in one program with the CPU's tests (moepp-native), their helpers and
// cases have the same names.
namespace moepp::test {}
namespace moepp::simt_test {

using namespace test;

// Empty when the kernel ran to its end. Arguments that point into arrays become device addresses.
template <class... Parameters, class... Arguments>
std::string run_kernel(void (*kernel)(Parameters...), const simt::Launch& how,
                       const Arguments&... arguments) {
  const simt::Error error =
      run_on_device([&] { return simt::launch(kernel, how, on_device(arguments)...); });
  return error == simt::kSuccess ? std::string() : simt::error_text(error);
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

// True on a real GPU, and where the emulation is set to a card with code for it alone
// (MOEPP_EMULATED_GPU).
inline bool is_one_card() {
#if SIMT_EMULATED
  return simt::emu::gpu().compiled != simt::emu::Gpu::kAll;
#else
  return true;
#endif
}
#if !SIMT_EMULATED
// The code of this program that the card runs, as the device sees it.
inline const cuda::Compiled& card() {
  static const cuda::Compiled compiled = [] {
    std::shared_ptr<Device> device;
    const Status status = open_cuda_device(0, &device);
    if (!status.ok()) throw std::runtime_error(status.message);
    return cuda::CudaQueue::from(device->queue()).compiled();
  }();
  return compiled;
}
#endif
// 10 * major + minor of the GPUs that the tests stand for: the card's own. Otherwise the emulation
// has the instructions of all, and takes the kernels of Ampere and of Hopper.
inline std::vector<int> compute_capabilities() {
#if SIMT_EMULATED
  if (is_one_card()) return {simt::compiled_capability()};
  return {80, 90};
#else
  return {card().capability};
#endif
}
inline int newest_capability() {
  return compute_capabilities().back();
}
inline bool has_tma() {
  return newest_capability() >= 90;
}
inline bool has_wgmma() {
#if SIMT_EMULATED
  return newest_capability() == 90;
#else
  return card().wgmma;
#endif
}

// Small integers, exact in every type here, so that sums of products are exact in any order.
inline int small_integer(size_t i, unsigned seed) {
  const unsigned mixed = static_cast<unsigned>(i) * 2654435761u + seed * 40503u;
  return static_cast<int>((mixed >> 13) % 15u) - 7;
}

}  // namespace moepp::simt_test
