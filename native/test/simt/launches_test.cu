// The launches of a decode step: what a graph of it has to pay for between its kernels.
#include "../../../bench/ops/step.h"
#include "debugging.h"

namespace moepp::simt_test {

#if SIMT_EMULATED
namespace {

int64_t launches(bench::Run& run, int64_t layers, int64_t batch) {
  const bench::DecodeWeights weights(run, layers);
  bench::DecodeStep step(run, weights, batch, run.sizes.context / 8);
  const int64_t before = simt::emu::counts().programmatic;
  run.once([&](int64_t) { step.enqueue(); });
  return simt::emu::counts().programmatic - before;
}

// `words` switch parts of the device off.
int64_t launches_of_a_layer(const char* words, int64_t batch) {
  const Debugging debugging(words);
  std::shared_ptr<Device> device;
  const Status status = open_cuda_device(0, &device);
  EXPECT_MESSAGE(status.ok(), status.message);
  if (!status.ok()) return 0;
  bench::Run run(device, bench::tiny_sizes(), {});
  return launches(run, 3, batch) - launches(run, 2, batch);
}

}  // namespace

// Each layer's: projection and rotation, attention, projection and routing, gate_up, down and
// combine. With several tokens the fused ones are apart.
MOEPP_TEST(simt_launches_of_a_layer) {
  EXPECT(launches_of_a_layer("", 1) == 5);
  EXPECT(launches_of_a_layer("", 2) == 8);
}

MOEPP_TEST(cuda_switch_of_fused_ops) {
  EXPECT(launches_of_a_layer("no-fuse", 1) == 8);
}

// With one kernel for the stages of all layers, and one for the head, a layer has none of its own.
MOEPP_TEST(simt_launches_of_persistent_steps) {
  const Debugging debugging("persistent");
  bench::Run run(opened(), bench::tiny_sizes(), {});
  const int64_t before = simt::emu::counts().cooperative;
  EXPECT(launches(run, 3, 1) - launches(run, 2, 1) == 0);
  EXPECT(simt::emu::counts().cooperative - before == 2 * 2);
  EXPECT(launches(run, 3, 1) == 5);  // rope_table, embedding, rms_norm, gather_rows, top_logits
}
#endif

}  // namespace moepp::simt_test
