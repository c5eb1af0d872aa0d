// The host's side of the emulated GPU: calls that CUDA refuses, and the current device.
#include <cstring>
#include <thread>

#include "opened_device.h"
#include "small_model.h"

namespace moepp::simt_test {

static __global__ void set_one(int* data) {
  if (threadIdx.x == 0) *data = 1;
}

// Four bytes of padding behind the scale. So large a struct is copied with them.
struct Scaled {
  float scale;
  int* data;
  int others[64];
};
static __global__ void set_scaled(Scaled to) {
  if (threadIdx.x == 0) *to.data = static_cast<int>(to.scale);
}

struct OneStream {
  simt::Stream stream = nullptr;
  OneStream() { EXPECT(simt::create_stream(&stream) == simt::kSuccess); }
  ~OneStream() { simt::destroy_stream(stream); }
  simt::Launch warp() const { return {dim3(1), dim3(32), 0, stream}; }
};

// Launches and memory have the device that is current in the thread, as in CUDA.
MOEPP_TEST(simt_current_device) {
  const OtherGpu restore;
  simt::emu::gpu() = simt::emu::gpu_named("two");
  const OneStream first;
  EXPECT(simt::use_device(2) == simt::kNoDevice && simt::use_device(1) == simt::kSuccess);
  const OneStream second;
  void* data = nullptr;
  EXPECT(simt::allocate(&data, 4) == simt::kSuccess);
  const auto launch = [&](const OneStream& stream) {
    return simt::launch(set_one, stream.warp(), static_cast<int*>(data));
  };
  EXPECT(launch(second) == simt::kSuccess);
  EXPECT(simt::synchronize(second.stream) == simt::kSuccess);
  EXPECT(launch(first) == simt::kInvalidHandle);
  simt::Error on_a_pool_thread = simt::kSuccess;
  std::thread([&] { on_a_pool_thread = launch(second); }).join();
  EXPECT(on_a_pool_thread == simt::kInvalidHandle);
  simt::Event event = nullptr;
  EXPECT(simt::create_event(&event) == simt::kSuccess);
  EXPECT(simt::record_event(event, first.stream) == simt::kInvalidHandle);
  EXPECT(simt::record_event(event, second.stream) == simt::kSuccess);
  EXPECT(simt::destroy_event(event) == simt::kSuccess);
  EXPECT(simt::use_device(0) == simt::kSuccess);
  simt::Error error = launch(first);
  if (error == simt::kSuccess) error = simt::synchronize(first.stream);
  const std::string said = simt::error_text(error);
  EXPECT_MESSAGE(said.find("was given memory of device 1") != std::string::npos, said);
  // A copy goes between devices.
  int got = 0;
  EXPECT(simt::copy_to_host(&got, data, sizeof got, first.stream) == simt::kSuccess);
  EXPECT(simt::synchronize(first.stream) == simt::kSuccess && got == 1);
  EXPECT(simt::release(data) == simt::kSuccess);
}

// The device names itself in every thread that comes to it.
MOEPP_TEST(cuda_device_in_other_threads) {
  const OtherGpu restore;
  simt::emu::gpu() = simt::emu::gpu_named("two");
  {
    const TemporaryFile file(SmallModel::floats());
    const SmallModel model(file.path());
    std::shared_ptr<Device> second;
    EXPECT(open_cuda_device(1, &second).ok());
    const auto program = compiled(second, model.spec);
    const auto run = [&] {
      SmallStep step(*program, 3);
      const Status status = program->run(step.step);
      EXPECT_MESSAGE(status.ok(), status.message);
    };
    run();  // takes all memory that these steps need, which would name the device, too
    for (int i = 0; i < 3; i++) std::thread(run).join();
  }
  EXPECT(simt::use_device(0) == simt::kSuccess);
}

// A call that a capture forbids fails, and the capture with it.
template <class Call>
static void expect_forbidden(simt::Error expected, const Call& call) {
  const OneStream captured;
  EXPECT(simt::begin_capture(captured.stream) == simt::kSuccess);
  EXPECT(call(captured.stream) == expected);
  EXPECT(simt::launch(set_one, captured.warp(), static_cast<int*>(nullptr)) ==
         simt::kCaptureInvalidated);
  simt::Graph graph = nullptr;
  EXPECT(simt::end_capture(captured.stream, &graph) == simt::kCaptureInvalidated);
  EXPECT(graph == nullptr);
  EXPECT(simt::synchronize(captured.stream) == simt::kSuccess);
}

MOEPP_TEST(simt_capture_forbids) {
  void *data = nullptr, *locked = nullptr;
  int pageable = 3;
  simt::Event event = {}, captured = {};
  EXPECT(simt::allocate(&data, 4) == simt::kSuccess);
  EXPECT(simt::allocate_host(&locked, 4) == simt::kSuccess);
  EXPECT(simt::create_event(&event) == simt::kSuccess);
  EXPECT(simt::create_event(&captured) == simt::kSuccess);
  const auto forbidden = [](const auto& call) {
    expect_forbidden(simt::kCaptureUnsupported, call);
  };
  void* more = nullptr;
  forbidden([&](simt::Stream) { return simt::allocate(&more, 4); });
  forbidden([&](simt::Stream) { return simt::allocate_host(&more, 4); });
  forbidden([&](simt::Stream) { return simt::release(data); });
  forbidden([&](simt::Stream) { return simt::release_host(locked); });
  forbidden([&](simt::Stream stream) { return simt::synchronize(stream); });
  forbidden([&](simt::Stream) { return simt::wait_for_event(event); });
  forbidden([&](simt::Stream s) { return simt::copy_to_device(data, &pageable, 4, s); });
  forbidden([&](simt::Stream s) { return simt::copy_to_host(&pageable, data, 4, s); });
  expect_forbidden(simt::kCapturedEvent, [&](simt::Stream stream) {
    EXPECT(simt::record_event(captured, stream) == simt::kSuccess);
    return simt::wait_for_event(captured);
  });
  EXPECT(simt::begin_capture(nullptr) == simt::kCaptureUnsupported);
  EXPECT(simt::destroy_event(event) == 0 && simt::destroy_event(captured) == 0);
  EXPECT(simt::release(data) == 0 && simt::release_host(locked) == 0);
}

// Other threads and other streams go on as they like: captures belong to their thread.
MOEPP_TEST(simt_capture_of_one_thread) {
  void *data = nullptr, *locked = nullptr;
  EXPECT(simt::allocate(&data, 4) == simt::kSuccess);
  EXPECT(simt::allocate_host(&locked, 4) == simt::kSuccess);
  const OneStream captured, free;
  simt::Graph graph = nullptr;
  EXPECT(simt::begin_capture(captured.stream) == simt::kSuccess);
  EXPECT(simt::begin_capture(captured.stream) == simt::kInvalidValue);
  EXPECT(simt::launch(set_one, captured.warp(), static_cast<int*>(data)) == simt::kSuccess);
  EXPECT(simt::copy_to_host(locked, data, 4, captured.stream) == simt::kSuccess);
  EXPECT(simt::clear(data, 4, free.stream) == simt::kSuccess);
  EXPECT(simt::synchronize(free.stream) == simt::kSuccess);
  std::thread([&] {
    void* more = nullptr;
    EXPECT(simt::allocate(&more, 4) == simt::kSuccess && simt::release(more) == simt::kSuccess);
    EXPECT(simt::end_capture(captured.stream, &graph) == simt::kCaptureWrongThread);
  }).join();
  EXPECT(simt::end_capture(captured.stream, &graph) == simt::kSuccess);
  EXPECT(simt::launch_graph(graph, captured.stream) == simt::kSuccess);
  EXPECT(simt::synchronize(captured.stream) == simt::kSuccess);
  EXPECT(*static_cast<int*>(locked) == 1);
  // The graph keeps addresses, not memory.
  EXPECT(simt::release(data) == simt::kSuccess);
  simt::Error error = simt::launch_graph(graph, captured.stream);
  if (error == simt::kSuccess) error = simt::synchronize(captured.stream);
  EXPECT(error == simt::kLaunchFailed);
  EXPECT(simt::destroy_graph(graph) == 0);
  EXPECT(simt::release_host(locked) == 0);
}

// Padding that holds the upper half of an address, beside a number that is the lower half, does not
// refer to that memory.
MOEPP_TEST(simt_padding_of_arguments_is_no_address) {
  for_each_schedule([] {
    const OneStream one;
    void *stale = nullptr, *data = nullptr;
    EXPECT(simt::allocate(&stale, 4) == simt::kSuccess);
    EXPECT(simt::allocate(&data, 4) == simt::kSuccess);
    Scaled arguments = {};
    std::memcpy(&arguments, &stale, sizeof stale);
    arguments.data = static_cast<int*>(data);
    EXPECT(simt::launch(set_scaled, one.warp(), arguments) == simt::kSuccess);
    EXPECT(simt::release(stale) == simt::kSuccess);
    EXPECT(simt::synchronize(one.stream) == simt::kSuccess);
    EXPECT(simt::release(data) == simt::kSuccess);
  });
}

// Pageable memory is read before the call returns.
MOEPP_TEST(simt_pageable_copies_are_staged) {
  for_each_schedule([] {
    const OneStream one;
    void* data = nullptr;
    int value = 7, got = 0;
    EXPECT(simt::allocate(&data, 4) == simt::kSuccess);
    EXPECT(simt::copy_to_device(data, &value, 4, one.stream) == simt::kSuccess);
    value = 8;
    EXPECT(simt::copy_to_host(&got, data, 4, one.stream) == simt::kSuccess);
    EXPECT(simt::synchronize(one.stream) == simt::kSuccess && got == 7);
    EXPECT(simt::release(data) == simt::kSuccess);
  });
}

// A grid that waits for blocks beyond what the card holds cannot end; a cooperative one is refused.
MOEPP_TEST(simt_blocks_that_cannot_begin) {
  Shared<unsigned> counter(1);
  const auto meet = [](unsigned* arrived) {
    if (threadIdx.x != 0) return;
    simt::atomic_add_acq_rel(arrived, 1);
    while (simt::load_acquire(arrived) < gridDim.x) {
    }
  };
  simt::Launch how = {dim3(64), dim3(1024)};
  const std::string said = run_kernel(+meet, how, counter.data());
  EXPECT_MESSAGE(said.find("others cannot begin") != std::string::npos, said);
  how.cooperative = true;
  EXPECT(simt::launch(+meet, how, counter.device()) == simt::kTooLarge);
}

}  // namespace moepp::simt_test
