// moepp-native bench: kHelp says what it does.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "bench.h"
#include "cpu/compute_peaks.h"
#include "expert_forward.h"

namespace moepp::bench {

static const char kHelp[] =
    R"(moepp-native bench [options] [name]

Runs every bench, or those whose names contain `name`, on every device: the CPU with every
instruction set and 1, 2, 4 ... threads, and the first GPU.

  --device=cpu|cuda  one device
  --isa=avx512       one instruction set of the CPU
  --threads=2        one number of threads of the CPU
  --seconds=0.5      to time a row for
  --layers=24        layers of a whole decode step (24 on a GPU, or as many as fit; 2 on the CPU)
  --check            check the kernels, time nothing
  --tiny             small sizes
  --help             this

moepp-native bench expert-forward ... is described in bench/ops/expert_forward.cc.
)";

// The best of 0.3 s: one sample alone meets cold pages and sleeping workers.
static double best_of(const std::function<double()>& measure) {
  double highest = 0;
  for (const double start = now(); now() - start < 0.3;) highest = std::max(highest, measure());
  return highest;
}

static void print_heading(const Target& target, bool check_only) {
  std::printf("\n%s", target.name.c_str());
  Device& device = *target.device;
  const bool on_host = device.uses_host_memory();
  const auto ceiling =
      on_host ? cpu_ceiling(device.info().isa, device.queue()) : cuda_ceiling(device);
  if (!check_only && ceiling != nullptr) {
    std::printf(": %.1f GB/s %s, %.0f GFLOP/s f32", best_of([&] { return ceiling->gb_s(); }),
                on_host ? "read" : "copied",
                best_of([&] { return ceiling->gflop_s(DType::kF32); }));
    if (on_host)
      std::printf(", %.0f GOP/s int8", best_of([&] { return ceiling->gflop_s(DType::kI8); }));
    if (!on_host)
      std::printf(", %.0f TFLOP/s bf16",
                  1e-3 * best_of([&] { return ceiling->gflop_s(DType::kBf16); }));
  }
  std::printf("\n");
  if (check_only || device.info().isa != "amx") return;
  std::vector<cpu::ComputePeak> peaks;
  if (!cpu::measure_compute_peaks(device.info().threads, "amx", &peaks).ok()) return;
  for (const auto& [name, rate] : peaks) std::printf("%s: %.0f GOP/s\n", name, 1e-9 * rate);
}

static bool starts_with(const char* text, const char* beginning, const char** rest) {
  const size_t length = std::strlen(beginning);
  *rest = text + length;
  return std::strncmp(text, beginning, length) == 0;
}

static Sizes sizes_for(Device& device, bool tiny, const Options& options) {
  if (tiny) return tiny_sizes();
  Sizes sizes = device.uses_host_memory() ? Sizes() : gpu_sizes();
  // 0.62 GB of weights and, for 64 sequences, 0.23 of cache.
  constexpr int64_t kLayerBytes = 900'000'000;
  if (!device.uses_host_memory())
    sizes.decode_layers =
        std::clamp<int64_t>(device.info().free_bytes / kLayerBytes, 1, sizes.decode_layers);
  if (options.layers > 0) sizes.decode_layers = options.layers;
  return sizes;
}

int run_benches(int argc, char** argv) {
  if (argc > 0 && std::strcmp(argv[0], "expert-forward") == 0)
    return run_expert_forward(argc - 1, argv + 1);
  Options options;
  bool tiny = false;
  for (int i = 0; i < argc; i++) {
    const char* value;
    if (starts_with(argv[i], "--device=", &value)) {
      options.device = value;
    } else if (starts_with(argv[i], "--isa=", &value)) {
      options.isa = value;
    } else if (starts_with(argv[i], "--threads=", &value)) {
      options.threads = std::atoi(value);
    } else if (starts_with(argv[i], "--seconds=", &value)) {
      options.seconds = std::atof(value);
    } else if (starts_with(argv[i], "--layers=", &value)) {
      options.layers = std::atoll(value);
    } else if (std::strcmp(argv[i], "--check") == 0) {
      options.check_only = true;
    } else if (std::strcmp(argv[i], "--tiny") == 0) {
      tiny = true;
    } else if (std::strcmp(argv[i], "--help") == 0) {
      std::fputs(kHelp, stdout);
      return 0;
    } else if (argv[i][0] == '-') {
      std::fprintf(stderr, "moepp-native bench: there is no option %s (--help lists them)\n",
                   argv[i]);
      return 2;
    } else {
      options.name = argv[i];
    }
  }
  bool ok = true;
  for (const Target& target : targets(options)) {
    print_heading(target, options.check_only);
    Run run(target.device, sizes_for(*target.device, tiny, options), options);
    for (const Bench& bench : registry()) {
      if (std::strstr(bench.name, options.name.c_str()) != nullptr) bench.run(run);
    }
    ok = ok && !run.failed();
  }
  return ok ? 0 : 1;
}

}  // namespace moepp::bench
