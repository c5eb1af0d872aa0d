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
      EXPECT(ceiling->read_gb_s() > 0.0 && ceiling->copy_gb_s() > 0.0 &&
             ceiling->gflop_s(DType::kF32) > 0.0 && ceiling->gflop_s(DType::kBf16) > 0.0);
    }
  }
  simt::emu::gpu() = before;
}

MOEPP_TEST(bench_runs_the_rows_that_are_named) {
  const auto benches = [](const char* name, const char* row, const char* tokens) {
    return run(bench::run_benches,
               {"--device=cuda", "--tiny", "--check", "--exact", name, row, tokens});
  };
  EXPECT(benches("rms_norm", "--row=delta", "--tokens=9") == 0);
  EXPECT(benches("rms_norm", "--row=delta", "--tokens=8") == 2);
  EXPECT(benches("rms_norm", "--row=alpha", "--tokens=9") == 2);
  EXPECT(benches("rms_nor", "--row=delta", "--tokens=9") == 2);
}

// Functions that stand in for benches fail in each way.
MOEPP_TEST(bench_that_fails_costs_only_itself) {
  const simt::emu::Gpu before = simt::emu::gpu();
  bench::Options options;
  options.device = "cuda";
  {
    bench::Run run(bench::targets(options)[0].device, bench::tiny_sizes(), options);
    const size_t used = simt::emu::used_bytes();
    simt::emu::gpu().memory_bytes = used + (1 << 20);
    EXPECT(run.attempt("large", [&] {
      const bench::Block fits(run, 1 << 19), does_not(run, 1 << 20);
      run.once([](int64_t) {});
    }));
    EXPECT(run.counts().too_large == 1 && simt::emu::used_bytes() == used);
    EXPECT(
        run.attempt("wrong", [] { bench::must(Status::error(Code::kUnsupported, "not here")); }));
    EXPECT(run.counts().failed == 1);
    bool ran = false;
    EXPECT(run.attempt("right", [&] { run.once([&](int64_t) { ran = true; }); }));
    EXPECT(ran && run.counts().failed == 1 && run.counts().too_large == 1);
    simt::emu::gpu().copies_to_fault = 1;
    EXPECT(!run.attempt("lost", [&] { bench::Block(run, 16).upload(); }));
    EXPECT(run.counts().failed == 2);
  }
  simt::emu::gpu() = before;
  simt::emu::gpu().kernels_to_fault = 2;
  EXPECT(run(bench::run_benches, {"--device=cuda", "--tiny", "--check", "rms_norm"}) == 1);
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
