// Ops that depend on each other, one behind the other in one stream. Since sm_90 a kernel starts
// before the one ahead of it has ended. The bits are those of the same ops one at a time, where
// nothing overlaps. The emulation runs a kernel up to its wait before the one ahead has begun, for
// either generation's choice of kernels.
#include "../../../bench/ops/step.h"
#include "device_test.h"

namespace moepp::simt_test {

// Few tokens, and so many that the GEMMs are others.
static void expect_order(const bench::Sizes& sizes, int rounds) {
  std::shared_ptr<Device> device;
  const Status status = open_cuda_device(0, &device);
  EXPECT_MESSAGE(status.ok(), status.message);
  if (!status.ok()) return;
  bench::Run run(device, sizes, {});
  const bench::DecodeWeights weights(run, sizes.decode_layers);
  for (const int64_t batch : {1, 8, 70}) {
    bench::DecodeStep step(run, weights, batch, sizes.context / 8);
    const std::string label = device->info().isa + ", " + std::to_string(batch) + " tokens: ",
                      wrong = step.check();
    EXPECT_MESSAGE(wrong.empty(), label + wrong);
    for (int round = 1; round < rounds; round++) {
      const std::string other = step.check_order();
      EXPECT_MESSAGE(other.empty(), label + other);
    }
  }
}

MOEPP_TEST(simt_step_order) {
#if SIMT_EMULATED
  const simt::emu::Gpu before = simt::emu::gpu();
  for (const int major : {8, 9}) {
    simt::emu::gpu().major = major;
    simt::emu::gpu().minor = 0;
    expect_order(bench::tiny_sizes(), 1);
  }
  simt::emu::gpu() = before;
#else
  bench::Sizes sizes = bench::gpu_sizes();
  sizes.decode_layers = 4;
  expect_order(sizes, 10);
#endif
}

}  // namespace moepp::simt_test
