// moepp-simt-count: the benches' rows on an emulated H100, and what their kernels move.
//
//   moepp-simt-count bench [--no-products] [options] [name]   as moepp-native bench
//   moepp-simt-count test [part of a name]                    of the counters, and of the ops
//
// Without products by wgmma, GEMMs of many rows take seconds; what they move does not depend on it.
#include <cstdlib>
#include <cstring>

#include "../../../../bench/ops/bench.h"
#include "test.h"
#include "test/emulator/runtime.h"
#include "test/emulator/traffic/products.h"
#include "test/emulator/traffic/traffic.h"

namespace moepp::bench {

namespace {

double all(const simt::emu::Moved& moved) {
  return static_cast<double>(moved.read + moved.written);
}

class Counters : public Counter {
 public:
  void start() override { simt::emu::count_traffic(); }
  Moved moved() const override {
    const simt::emu::Traffic& t = simt::emu::traffic();
    return {static_cast<int64_t>(t.launches),
            all(t.asked),
            all(t.requests),
            all(t.l2),
            all(t.kernels),
            all(t.step),
            all(t.memory)};
  }
};

int run_counted(int argc, char** argv) {
  if (std::getenv("MOEPP_EMULATED_GPU") == nullptr) {
    simt::emu::gpu() = simt::emu::gpu_named("hopper");
    simt::emu::gpu().multiprocessors = 132;
  }
  static Counters counters;
  counter = &counters;
  static char device[] = "--device=cuda";
  std::vector<char*> arguments = {device};
  for (int i = 0; i < argc; i++) {
    const bool leaves_out = std::strcmp(argv[i], "--no-products") == 0;
    if (leaves_out) simt::emu::computes_products = false;
    if (!leaves_out) arguments.push_back(argv[i]);
  }
  return run_benches(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace

// x, delta and the norm's weights; their sum and the normed rows.
MOEPP_TEST(traffic_of_a_bench_row) {
  const simt::emu::Gpu before = simt::emu::gpu();
  const char* arguments[] = {"--tiny", "--exact", "rms_norm", "--row=delta", "--tokens=9"};
  EXPECT(run_counted(5, const_cast<char**>(arguments)) == 0);
  const simt::emu::Traffic& t = simt::emu::traffic();
  EXPECT(t.launches == 1 && t.memory.read == 4 * 64 * (9 + 9 + 1) &&
         t.memory.written == 4 * 64 * (9 + 9));
  simt::emu::stop_counting();
  simt::emu::gpu() = before;
  counter = nullptr;
}

}  // namespace moepp::bench

int main(int argc, char** argv) {
  moepp::test::Selection selection;
  if (argc > 1 && std::strcmp(argv[1], "bench") == 0)
    return moepp::bench::run_counted(argc - 2, argv + 2);
  if (argc > 1 && std::strcmp(argv[1], "test") == 0 &&
      moepp::test::parse_selection(argc - 2, argv + 2, &selection))
    return moepp::test::run_tests(selection);
  std::fprintf(stderr,
               "moepp-simt-count bench [--no-products] [options] [name]\n"
               "moepp-simt-count test [--list] [--exact NAME | part of a name]\n");
  return 2;
}
