// moepp-native-bench [--isa=avx512] [--threads=2] [--seconds=0.5] [name]
// Every bench (or those whose name holds `name`) on every instruction set (or one) with 1, 2, 4 ... threads (or one number).
#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace moepp::bench {

std::vector<Bench>& registry() {
  static std::vector<Bench> benches;
  return benches;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static constexpr size_t kHugePage = size_t{2} << 20;

Buffer::Buffer(size_t bytes) : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
  data_ = ::operator new(bytes_, std::align_val_t{kHugePage});
#if defined(__linux__)
  madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  std::memset(data_, 0, bytes_);
}

Buffer::~Buffer() {
  ::operator delete(data_, std::align_val_t{kHugePage});
}

static double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

static double best(const std::vector<double>& values, bool highest) {
  if (values.empty()) return 0.0;
  return highest ? *std::max_element(values.begin(), values.end()) : *std::min_element(values.begin(), values.end());
}

// The time that a row took, its rate, and the share of the ceiling: the longer of what its bytes and its operations need.
static void print_share(const Row& row, double time, double gb_s, double gflop_s) {
  const double for_bytes = gb_s > 0.0 ? row.bytes / gb_s * 1e-9 : 0.0,
               for_flops = gflop_s > 0.0 ? row.flops / gflop_s * 1e-9 : 0.0;
  const bool bytes = for_bytes >= for_flops;
  std::printf("%10.1f us %7.2f of %6.1f %s %5.1f %%", time * 1e6, (bytes ? row.bytes : row.flops) / time * 1e-9,
              bytes ? gb_s : gflop_s,
              bytes      ? "GB/s   "
              : row.int8 ? "GOP/s  "
                         : "GFLOP/s",
              100.0 * std::max(for_bytes, for_flops) / time);
}

void Run::row(const Row& row, const std::string& wrong, const std::function<void(int64_t)>& call) {
  std::printf("%-40s %-5s %5lld ", row.name.c_str(), row.dtype.c_str(), static_cast<long long>(row.tokens));
  if (!wrong.empty()) {
    failed_ = true;
    std::printf("WRONG: %s\n", wrong.c_str());
    return;
  }
  std::vector<double> times, reads, multiply_adds;
  const double start = now();
  for (int64_t i = 0; i < 5 || now() - start < seconds_; i++) {
    if (row.flops > 0.0) multiply_adds.push_back(row.int8 ? int8_gop_s(isa.name, pool) : gflop_s(isa.name, pool));
    if (row.bytes > 0.0) reads.push_back(read_gb_s(isa.name, pool));
    const double before = now();
    call(i);
    times.push_back(now() - before);
  }
  print_share(row, median(times), median(reads), median(multiply_adds));
  std::printf("   best ");
  print_share(row, best(times, false), best(reads, true), best(multiply_adds, true));
  std::printf("\n");
  std::fflush(stdout);
}

struct Options {
  std::string isa, name;
  int threads = 0;
  double seconds = 0.5;
};

static Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument.rfind("--isa=", 0) == 0) {
      options.isa = argument.substr(6);
    } else if (argument.rfind("--threads=", 0) == 0) {
      options.threads = std::atoi(argument.c_str() + 10);
    } else if (argument.rfind("--seconds=", 0) == 0) {
      options.seconds = std::atof(argument.c_str() + 10);
    } else {
      options.name = argument;
    }
  }
  return options;
}

// The best of 0.3 s: one sample alone meets cold pages and sleeping workers.
static double best(double (*measure)(const std::string& isa, cpu::ThreadPool& pool), const cpu::Isa& isa, cpu::ThreadPool& pool) {
  double highest = 0;
  for (const double start = now(); now() - start < 0.3;) highest = std::max(highest, measure(isa.name, pool));
  return highest;
}

static bool run_all(const cpu::Isa& isa, int threads, const Options& options) {
  cpu::ThreadPool pool(threads);
  std::printf("\n%s, %d thread%s: %.1f GB/s read, %.0f GFLOP/s f32, %.0f GOP/s int8\n", isa.name, threads,
              threads == 1 ? "" : "s", best(&read_gb_s, isa, pool), best(&gflop_s, isa, pool), best(&int8_gop_s, isa, pool));
  if (std::strcmp(isa.name, "amx") == 0) {
    double bf16 = 0.0, bytes = 0.0;
    for (int i = 0; i < 20; i++) {
      bf16 = std::max(bf16, tile_gop_s(false, pool));
      bytes = std::max(bytes, tile_gop_s(true, pool));
    }
    // A bf16 weight meets the three parts of an f32 activation.
    std::printf("tiles: %.0f GFLOP/s bf16, a third of it %.0f; %.0f GOP/s int8\n", bf16, bf16 / 3.0, bytes);
  }
  Run run(isa, pool, options.seconds);
  for (const Bench& bench : registry()) {
    if (std::strstr(bench.name, options.name.c_str()) != nullptr) bench.run(run);
  }
  return !run.failed();
}

}  // namespace moepp::bench

int main(int argc, char** argv) {
  using namespace moepp;
  const bench::Options options = bench::parse(argc, argv);
  bool ok = true;
  for (const cpu::Isa& isa : cpu::available_isas()) {
    if (!options.isa.empty() && options.isa != isa.name) continue;
    const int available = cpu::available_threads();
    if (options.threads > 0) {
      ok = bench::run_all(isa, options.threads, options) && ok;
      continue;
    }
    for (int threads = 1;; threads = std::min(2 * threads, available)) {
      ok = bench::run_all(isa, threads, options) && ok;
      if (threads >= available) break;
    }
  }
  return ok ? 0 : 1;
}
