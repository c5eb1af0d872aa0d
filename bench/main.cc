// moepp-native test|bench: the native tests and benchmarks in one program, for machines that have
// no Node.
#include <cstdio>
#include <cstring>

#include "../native/test/test.h"
#include "ops/bench.h"

static int usage() {
  std::fprintf(stderr,
               "moepp-native test [--cpu | --gpu] [part of a name]\n"
               "moepp-native bench [--device=cpu|cuda] [--isa=avx512] [--threads=2] "
               "[--seconds=0.5] [--layers=24] [--check] "
               "[--tiny] [part of a name]\n"
               "moepp-native bench expert-forward ... (bench/ops/expert_forward.cc)\n");
  return 2;
}

// The tests of CUDA kernels, which need a GPU, have names that begin with simt_ or cuda_.
static int run_tests(int argc, char** argv) {
  using moepp::test::Wanted;
  const bool has_gpu = moepp::cuda_info().devices > 0;
  Wanted wanted = has_gpu ? Wanted::kAll : Wanted::kCpu;
  const char* name = "";
  for (int i = 0; i < argc; i++) {
    if (std::strcmp(argv[i], "--cpu") == 0) {
      wanted = Wanted::kCpu;
    } else if (std::strcmp(argv[i], "--gpu") == 0) {
      wanted = Wanted::kGpu;
    } else if (argv[i][0] == '-') {
      return usage();
    } else {
      name = argv[i];
    }
  }
  if (wanted == Wanted::kGpu && !has_gpu) {
    const moepp::CudaInfo info = moepp::cuda_info();
    std::fprintf(stderr, "moepp-native: nothing was tested: %s\n",
                 info.built ? info.problem.c_str()
                            : "this build has no CUDA device (configure with -DMOEPP_CUDA=ON)");
    return 2;
  }
  return moepp::test::run_tests(name, wanted);
}

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "test") == 0) return run_tests(argc - 2, argv + 2);
  if (argc > 1 && std::strcmp(argv[1], "bench") == 0)
    return moepp::bench::run_benches(argc - 2, argv + 2);
  return usage();
}
