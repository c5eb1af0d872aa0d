// The results of a step on their way to the host. They are right, and come in one copy unless they
// are large. The caller's memory is untouched when they did not arrive.
#include <cstring>

#include "opened_device.h"
#include "small_model.h"

namespace moepp::simt_test {

namespace {

constexpr int64_t kAlignment = 64, kStaged = int64_t{4} << 20;  // cuda_device.cu

// Results of these sizes as a program places them, which a step uploads and downloads again.
struct Pieces {
  std::shared_ptr<Device> device;
  std::vector<std::vector<unsigned char>> sent, got;
  std::vector<Transfer> up, down;
  int64_t bytes = 0;
  std::byte* data;

  Pieces(std::shared_ptr<Device> on, const std::vector<int64_t>& sizes) : device(std::move(on)) {
    for (const int64_t size : sizes) bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
    data = static_cast<std::byte*>(device->allocate(bytes));
    int64_t at = 0;
    for (const int64_t size : sizes) {
      std::vector<unsigned char>& values = sent.emplace_back(static_cast<size_t>(size));
      for (size_t i = 0; i < values.size(); i++)
        values[i] =
            static_cast<unsigned char>(small_integer(i, static_cast<unsigned>(sent.size())));
      got.emplace_back(static_cast<size_t>(size), kUntouched);
      up.push_back({data + at, values.data(), size});
      down.push_back({data + at, got.back().data(), size});
      at += (size + kAlignment - 1) / kAlignment * kAlignment;
    }
  }
  ~Pieces() { device->release(data, bytes); }

  Status run() {
    MOEPP_CHECK(device->begin_step());
    Status status = device->upload(up);
    if (status.ok()) status = device->download(down);
    const Status end = device->end_step();
    return status.ok() ? end : status;
  }

  static constexpr unsigned char kUntouched = 0xa5;
};

}  // namespace

MOEPP_TEST(cuda_results) {
  const auto device = opened();
  const std::vector<int64_t> cases[] = {
      {4},           {100, 4, 64, 0, 260},          {kStaged - 64, 60}, {0},
      {kStaged + 4}, {12, kStaged, 0, 4},  // large
      {4, 0},        {kStaged / 2, 0, kStaged / 2},
  };
  for (const auto& sizes : cases) {
    Pieces pieces(device, sizes);
    const Status status = pieces.run();
    EXPECT_MESSAGE(status.ok(), status.message);
    EXPECT(pieces.got == pieces.sent);
  }
}

#if SIMT_EMULATED
MOEPP_TEST(cuda_results_come_in_one_copy) {
  const auto copies_of = [](const std::function<Status()>& run) {
    const int64_t before = simt::emu::counts().copies_to_host;
    const Status status = run();
    EXPECT_MESSAGE(status.ok(), status.message);
    return simt::emu::counts().copies_to_host - before;
  };
  const auto device = opened();
  Pieces small(device, {100, 4, 64, 0, 260}), full(device, {kStaged - 64, 60}),
      large(device, {kStaged, 4, 8});
  EXPECT(copies_of([&] { return small.run(); }) == 1);
  EXPECT(copies_of([&] { return full.run(); }) == 1);
  EXPECT(copies_of([&] { return large.run(); }) == 3);
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(device, model.spec);
  for (const int64_t tokens : {3, 3, 3, 70}) {  // the third is replayed
    SmallStep step(*program, tokens, {"sum1", "next0"});
    EXPECT(copies_of([&] { return program->run(step.step); }) == 1);
  }
}

// The GPU is lost while the results are on their way.
MOEPP_TEST(cuda_results_that_are_lost) {
  const OtherGpu restore;
  const auto device = opened();
  Pieces pieces(device, {100, 4});
  simt::emu::gpu().copies_to_fault = 2;
  for (int i = 0; i < 2; i++) {
    const Status status = pieces.run();
    EXPECT_MESSAGE(status.code == Code::kDevice, status.message);
    for (const auto& values : pieces.got)
      for (const unsigned char value : values) EXPECT(value == Pieces::kUntouched);
  }
}
#endif

}  // namespace moepp::simt_test
