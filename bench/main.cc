// moepp-native device|test|bench: the GPU that it would use, the native tests and benchmarks in one
// program, for machines that have no Node.
#include <cstdio>
#include <cstring>

#include "../native/test/test.h"
#include "ops/bench.h"

static int usage() {
  std::fprintf(stderr,
               "moepp-native device\n"
               "moepp-native test [--cpu | --gpu] [--list] [--exact NAME | part of a name]\n"
               "moepp-native bench [options] [part of a name]  (moepp-native bench --help)\n"
               "moepp-native bench expert-forward ... (bench/ops/expert_forward.cc)\n");
  return 2;
}

static int refuse(const std::string& problem) {
  std::fprintf(stderr, "moepp-native: nothing was tested: %s\n", problem.c_str());
  return 2;
}

static std::string problem_of(const moepp::CudaInfo& info) {
  return info.built ? info.problem
                    : "this build has no CUDA device (configure with -DMOEPP_CUDA=ON)";
}

// Opens the first GPU, as tests and benches do. 2: there is none that can be used. 1: it failed.
static int show_device() {
  const moepp::CudaInfo cuda = moepp::cuda_info();
  if (cuda.devices == 0) return refuse(problem_of(cuda));
  std::shared_ptr<moepp::Device> device;
  const moepp::Status status = moepp::open_cuda_device(0, &device);
  if (!status.ok()) {
    using moepp::Code;
    const bool unusable = status.code == Code::kNoGpu || status.code == Code::kDriverTooOld ||
                          status.code == Code::kGpuTooOld;
    if (unusable) return refuse(status.message);
    std::fprintf(stderr, "moepp-native: %s\n", status.message.c_str());
    return 1;
  }
  const moepp::DeviceInfo info = device->info();
  const std::string debug = moepp::bench::debug_words(*device);
  std::printf("device: %s, the first of %d that CUDA sees\nkernels: %s\n", info.model.c_str(),
              cuda.devices, info.isa.c_str());
  std::printf("CUDA: built with %s, the driver supports %s\n",
              moepp::cuda_version_text(cuda.runtime_version).c_str(),
              moepp::cuda_version_text(cuda.driver_version).c_str());
  std::printf("memory: %lld of %lld bytes free\nMOEPP_CUDA_DEBUG: %s\n",
              static_cast<long long>(info.free_bytes), static_cast<long long>(info.total_bytes),
              debug.empty() ? "not set" : debug.c_str());
  return 0;
}

// The tests of CUDA kernels, which need a GPU, have names that begin with simt_ or cuda_.
static int run_tests(int argc, char** argv) {
  using moepp::test::Wanted;
  moepp::test::Selection selection;
  if (!moepp::test::parse_selection(argc, argv, &selection)) return usage();
  if (selection.list || selection.wanted == Wanted::kCpu) return moepp::test::run_tests(selection);
  const moepp::CudaInfo cuda = moepp::cuda_info();
  if (cuda.devices == 0) {
    if (selection.wanted == Wanted::kGpu) return refuse(problem_of(cuda));
    selection.wanted = Wanted::kCpu;
  }
  return moepp::test::run_tests(selection);
}

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "device") == 0) return show_device();
  if (argc > 1 && std::strcmp(argv[1], "test") == 0) return run_tests(argc - 2, argv + 2);
  if (argc > 1 && std::strcmp(argv[1], "bench") == 0)
    return moepp::bench::run_benches(argc - 2, argv + 2);
  return usage();
}
