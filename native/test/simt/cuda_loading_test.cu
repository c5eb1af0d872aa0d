// Page-locked memory of loads: one staging for all weights of a program, given back at the end.
// Loads of several programs on one device may run at once.
#include <thread>

#include "opened_device.h"
#include "small_model.h"

namespace moepp::simt_test {

MOEPP_TEST(cuda_loads_at_once) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto device = opened();
  const auto alone = compiled(device, model.spec);
  SmallStep want(*alone, 4);
  EXPECT(alone->run(want.step).ok());
  constexpr int kThreads = 3, kPrograms = 4;
  std::vector<std::unique_ptr<Program>> programs(kThreads * kPrograms);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < kPrograms; i++) {
        const Status status =
            Program::compile(device, model.spec, {}, &programs[t * kPrograms + i]);
        EXPECT_MESSAGE(status.ok(), status.message);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& program : programs) {
    SmallStep got(*program, 4);
    EXPECT(program->run(got.step).ok());
    EXPECT(got.results == want.results);
  }
}

#if SIMT_EMULATED
MOEPP_TEST(cuda_loading_takes_one_staging) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto device = opened();
  const auto& now = simt::emu::counts();
  const int64_t asked = now.page_locked, held = now.page_locked_now;
  const auto program = compiled(device, model.spec);
  EXPECT_MESSAGE(now.page_locked == asked + 2,
                 std::to_string(now.page_locked - asked) + " buffers");
  EXPECT(now.page_locked_now == held);
}
#endif

}  // namespace moepp::simt_test
