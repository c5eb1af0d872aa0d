// The native benches on the emulated GPU, at small sizes: every row's check holds, recorded calls
// replay, the ceilings run. The times mean nothing here.
#include "../../../bench/ops/bench.h"
#include "../../../bench/ops/expert_forward.h"
#include "cuda/simt/simt.h"
#include "test.h"

namespace moepp::simt_test {

template <size_t N>
static int run(int (*program)(int, char**), const char* (&&arguments)[N]) {
  return program(static_cast<int>(N), const_cast<char**>(arguments));
}

MOEPP_TEST(bench_rows_are_right) {
  EXPECT(run(bench::run_benches, {"--device=cuda", "--tiny", "--check"}) == 0);
}

MOEPP_TEST(bench_times_replays_and_ceilings) {
  const simt::emu::Gpu before = simt::emu::gpu();
  for (const int capability : {75, 80, 90}) {
    simt::emu::gpu().major = capability / 10;
    simt::emu::gpu().minor = capability % 10;
    EXPECT(run(bench::run_benches, {"--device=cuda", "--tiny", "--seconds=0", "rms_norm"}) == 0);
    bench::Options options;
    options.device = "cuda";
    for (const bench::Target& target : bench::targets(options)) {
      const auto ceiling = bench::cuda_ceiling(*target.device);
      EXPECT(ceiling->gb_s() > 0.0 && ceiling->gflop_s(DType::kF32) > 0.0 &&
             ceiling->gflop_s(DType::kBf16) > 0.0);
    }
  }
  simt::emu::gpu() = before;
}

MOEPP_TEST(bench_expert_forward) {
  for (const char* dtype : {"--dtype=bf16", "--dtype=int8", "--dtype=int4"}) {
    EXPECT(run(bench::run_expert_forward,
               {"--device=cuda", "--hidden=64", "--ffn=64", "--ffn-experts=4", "--constants=2",
                "--tokens=1,40", "--tau=0.1,1", "--seconds=0", dtype}) == 0);
  }
}

}  // namespace moepp::simt_test
