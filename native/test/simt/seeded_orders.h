// Faults of order: between host and device, between streams, kernels and blocks. Each function runs
// one case, with a bug or without. seeded_bugs_test.cc shows which build notices which.
#pragma once

#include <cstring>

#include "device_test.h"
#include "seeded_bugs_run.h"

namespace moepp::simt_test {

enum class OrderBug {
  kNone,
  // copies
  kStagingOverwritten,
  kFreedInFlight,
  kOtherStream,
  // programmatic launches
  kReadBeforeWait,
  kWriteBeforeWait,
  kLetGoBeforeWait,
  // blocks of a grid that wait for each other
  kNoGridBarrier,
  kGridTooLarge,
};

static __global__ void copy_ints(const int* from, int* to) {
  simt::wait_for_dependencies();
  to[threadIdx.x] = from[threadIdx.x];
}

// Two values go one after the other through one page-locked buffer; a kernel copies the second.
template <OrderBug bug>
int run_copies() {
  constexpr size_t kBytes = 32 * sizeof(int);
  simt::Stream stream = nullptr, other = nullptr;
  simt::Event sent = {};
  void *staging = nullptr, *in = nullptr, *out = nullptr;
  bool fine = simt::create_stream(&stream) == 0 && simt::create_stream(&other) == 0 &&
              simt::create_event(&sent) == 0 && simt::allocate_host(&staging, kBytes) == 0 &&
              simt::allocate(&in, 2 * kBytes) == 0 && simt::allocate(&out, kBytes) == 0;
  auto* second = static_cast<char*>(in) + kBytes;
  std::memset(staging, 1, kBytes);
  fine &= simt::copy_to_device(in, staging, kBytes, stream) == 0;
  fine &= simt::record_event(sent, stream) == 0;
  if (bug != OrderBug::kStagingOverwritten) fine &= simt::wait_for_event(sent) == 0;
  std::memset(staging, 2, kBytes);
  fine &= simt::copy_to_device(second, staging, kBytes,
                               bug == OrderBug::kOtherStream ? other : stream) == 0;
  const simt::Launch how = {dim3(1), dim3(32), 0, stream};
  fine &= simt::launch(copy_ints, how, reinterpret_cast<const int*>(second),
                       static_cast<int*>(out)) == 0;
  int got[32] = {}, first[32] = {};
  if (bug == OrderBug::kFreedInFlight) fine &= simt::release(in) == 0;
  fine &= simt::copy_to_host(got, out, sizeof got, stream) == 0;
  if (bug != OrderBug::kFreedInFlight)
    fine &= simt::copy_to_host(first, in, sizeof first, stream) == 0;
  fine &= simt::synchronize(stream) == 0 && simt::synchronize(other) == 0;
  if (bug != OrderBug::kFreedInFlight) simt::release(in);
  simt::release(out);
  simt::release_host(staging);
  simt::destroy_event(sent);
  simt::destroy_stream(other);
  simt::destroy_stream(stream);
  if (!fine) return kRefused;
  return got[31] == 0x02020202 && first[31] == 0x01010101 ? 0 : kWrongResult;
}

// data: x, y and z, which begin as 3. Each kernel may start before the one ahead has ended.
static __global__ void write_x(int* data) {
  simt::wait_for_dependencies();
  simt::launch_dependents();
  if (threadIdx.x == 0) data[0] = 5;
}
template <OrderBug bug>
static __global__ void write_y(int* data) {
  if (bug == OrderBug::kLetGoBeforeWait) simt::launch_dependents();
  simt::wait_for_dependencies();
  if (bug != OrderBug::kLetGoBeforeWait) simt::launch_dependents();
  if (threadIdx.x == 0) data[1] = data[0] + data[2];
}
// x is older than the kernel ahead, which lets this one go when x is there: it may be read at once.
template <OrderBug bug>
static __global__ void write_z(int* data) {
  const int x = data[0];
  int y = 0;
  if (bug == OrderBug::kReadBeforeWait) y = data[1];
  if (bug == OrderBug::kWriteBeforeWait && threadIdx.x == 0) data[2] = 0;
  simt::wait_for_dependencies();
  simt::launch_dependents();
  if (bug != OrderBug::kReadBeforeWait) y = data[1];
  if (threadIdx.x == 0) data[2] = x + y;
}

template <OrderBug bug>
int run_programmatic() {
  Shared<int> data(3, 3);
  const simt::Error error = run_on_device([&] {
    simt::Launch how = {dim3(1), dim3(32)};
    how.programmatic = has_tma();
    simt::Error first = simt::launch(write_x, how, data.device());
    if (first == simt::kSuccess) first = simt::launch(write_y<bug>, how, data.device());
    return first == simt::kSuccess ? simt::launch(write_z<bug>, how, data.device()) : first;
  });
  if (error != simt::kSuccess) return kRefused;
  return data[0] == 5 && data[1] == 8 && data[2] == 13 ? 0 : kWrongResult;
}

// Each block leaves a number, waits until all have, and adds its neighbour's.
template <OrderBug bug>
static __global__ void add_neighbours(unsigned* counter, int* left, int* sums) {
  const unsigned next = (blockIdx.x + 1) % gridDim.x;
  if (threadIdx.x == 0) {
    left[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    simt::atomic_add_acq_rel(counter, 1);
    while (bug != OrderBug::kNoGridBarrier && simt::load_acquire(counter) < gridDim.x) {
    }
    sums[blockIdx.x] = left[blockIdx.x] + left[next];
  }
}

template <OrderBug bug>
int run_neighbours() {
  const bool large = bug == OrderBug::kGridTooLarge;
  const unsigned blocks = large ? 4096 : 3;
  for (const bool cooperative : {false, true}) {
    Shared<unsigned> counter(1);
    Shared<int> left(blocks), sums(blocks);
    simt::Launch how = {dim3(blocks), dim3(64)};
    how.cooperative = cooperative;
    const std::string text =
        run_kernel(add_neighbours<bug>, how, counter.data(), left.data(), sums.data());
    if (!text.empty()) {
      std::printf("%s\n", text.c_str());
      return kRefused;
    }
    for (unsigned i = 0; i < blocks; i++) {
      if (sums[i] != static_cast<int>(i + 1 + (i + 1) % blocks + 1)) return kWrongResult;
    }
  }
  return 0;
}

}  // namespace moepp::simt_test
