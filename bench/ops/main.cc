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
instruction set and 1, 2, 4 ... threads, and the first GPU. A bench that does not
fit the device's memory says so, and the next one runs. The exit status is 1 where something is
wrong or failed, and 2 where there is no such bench or row.

  --device=cpu|cuda  one device
  --isa=avx512       one instruction set of the CPU
  --threads=2        one number of threads of the CPU
  --seconds=0.5      to time a row for
  --layers=24        layers of a whole decode step (24 on a GPU, or as many as fit; 2 on the CPU)
  --tokens=2048      rows of so many tokens
  --row=prefill      rows whose names contain it
  --exact            the bench of that whole name
  --list             print the names of the benches
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

// Of the tables that Run::count writes.
static void print_columns() {
  std::printf(
      "\n\n| row, dtype, tokens | launches | asked | requests | L2 | per kernel | per call | "
      "memory |"
      " least | least of memory | flop/L2 byte |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
}

static void print_heading(const Target& target, bool check_only) {
  std::printf("\n%s", target.name.c_str());
  if (counter != nullptr) return print_columns();
  Device& device = *target.device;
  const bool on_host = device.uses_callers_memory();
  const auto ceiling =
      on_host ? cpu_ceiling(device.info().isa, device.queue()) : cuda_ceiling(device);
  if (!check_only && ceiling != nullptr) {
    std::printf(": %.1f GB/s read", best_of([&] { return ceiling->read_gb_s(); }));
    if (!on_host) std::printf(", %.1f copied", best_of([&] { return ceiling->copy_gb_s(); }));
    std::printf(", %.0f GFLOP/s f32", best_of([&] { return ceiling->gflop_s(DType::kF32); }));
    if (on_host)
      std::printf(", %.0f GOP/s int8", best_of([&] { return ceiling->gflop_s(DType::kI8); }));
    if (!on_host)
      std::printf(", %.0f TFLOP/s bf16",
                  1e-3 * best_of([&] { return ceiling->gflop_s(DType::kBf16); }));
  }
  const std::string debug = debug_words(device);
  if (!debug.empty()) std::printf("; MOEPP_CUDA_DEBUG: %s", debug.c_str());
  std::printf("\n");
  std::fflush(stdout);
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
  Sizes sizes = tiny ? tiny_sizes() : device.uses_callers_memory() ? Sizes() : gpu_sizes();
  // 0.62 GB of weights and, for 64 sequences, 0.23 of cache.
  constexpr int64_t kLayerBytes = 900'000'000;
  if (!device.uses_callers_memory())
    sizes.decode_layers =
        std::clamp<int64_t>(device.info().free_bytes / kLayerBytes, 1, sizes.decode_layers);
  if (options.layers > 0) sizes.decode_layers = options.layers;
  // The work of no other row is done.
  for (std::vector<int64_t>* tokens :
       {&sizes.step_tokens, &sizes.gemm_tokens, &sizes.decode_batches}) {
    if (options.tokens > 0)
      tokens->erase(std::remove_if(tokens->begin(), tokens->end(),
                                   [&](int64_t one) { return one != options.tokens; }),
                    tokens->end());
  }
  return sizes;
}

// 0 where `argument` is understood.
static int parse(const char* argument, Options* options, bool* tiny) {
  const char* value;
  if (starts_with(argument, "--device=", &value)) {
    options->device = value;
  } else if (starts_with(argument, "--isa=", &value)) {
    options->isa = value;
  } else if (starts_with(argument, "--threads=", &value)) {
    options->threads = static_cast<int>(integer_of(value));
  } else if (starts_with(argument, "--seconds=", &value)) {
    options->seconds = std::atof(value);
  } else if (starts_with(argument, "--layers=", &value)) {
    options->layers = integer_of(value);
  } else if (starts_with(argument, "--tokens=", &value)) {
    options->tokens = integer_of(value);
  } else if (starts_with(argument, "--row=", &value)) {
    options->row = value;
  } else if (std::strcmp(argument, "--exact") == 0) {
    options->exact = true;
  } else if (std::strcmp(argument, "--list") == 0) {
    options->list = true;
  } else if (std::strcmp(argument, "--check") == 0) {
    options->check_only = true;
  } else if (std::strcmp(argument, "--tiny") == 0) {
    *tiny = true;
  } else if (argument[0] == '-') {
    std::fprintf(stderr, "moepp-native bench: there is no option %s (--help lists them)\n",
                 argument);
    return 2;
  } else {
    options->name = argument;
  }
  return 0;
}

static std::vector<Bench> selected(const Options& options) {
  std::vector<Bench> benches;
  for (const Bench& bench : registry()) {
    if (options.exact ? options.name == bench.name
                      : std::strstr(bench.name, options.name.c_str()) != nullptr)
      benches.push_back(bench);
  }
  return benches;
}

static int nothing_to_run(const Options& options) {
  std::fprintf(stderr,
               "moepp-native bench: there is no such bench or row: %s (--list names them)\n",
               options.name.c_str());
  return 2;
}

// On every device; what there was to run, together.
static Run::Counts run_all(const std::vector<Bench>& benches, const Options& options, bool tiny) {
  Run::Counts all;
  for (const Target& target : targets(options)) {
    print_heading(target, options.check_only);
    Run run(target.device, sizes_for(*target.device, tiny, options), options);
    for (const Bench& bench : benches) {
      if (!run.attempt(bench.name, [&] { bench.run(run); })) break;
    }
    const Run::Counts& counts = run.counts();
    all.rows += counts.rows, all.wrong += counts.wrong, all.failed += counts.failed;
    all.too_large += counts.too_large;
  }
  return all;
}

int run_benches(int argc, char** argv) {
  if (argc > 0 && std::strcmp(argv[0], "expert-forward") == 0)
    return run_expert_forward(argc - 1, argv + 1);
  Options options;
  bool tiny = false;
  for (int i = 0; i < argc; i++) {
    if (std::strcmp(argv[i], "--help") == 0) {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (const int status = parse(argv[i], &options, &tiny); status != 0) return status;
  }
  const std::vector<Bench> benches = selected(options);
  if (benches.empty()) return nothing_to_run(options);
  if (options.list) {
    for (const Bench& bench : benches) std::printf("%s\n", bench.name);
    return 0;
  }
  try {
    const Run::Counts all = run_all(benches, options, tiny);
    const bool rows_are_named = options.tokens > 0 || !options.row.empty();
    if (rows_are_named && all.rows + all.failed + all.too_large == 0)
      return nothing_to_run(options);
    if (all.wrong + all.failed + all.too_large > 0)
      std::printf("%d rows: %d wrong, %d failed, %d did not fit\n", all.rows, all.wrong, all.failed,
                  all.too_large);
    return all.wrong + all.failed > 0 ? 1 : 0;
  } catch (const Failure& failure) {
    std::fprintf(stderr, "moepp-native: %s\n", failure.what());
    return 1;
  }
}

}  // namespace moepp::bench
