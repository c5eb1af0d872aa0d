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

void Run::row(const Row& row, const std::string& wrong, const std::function<void(int64_t)>& call) {
  std::printf("%-40s %-5s %5lld ", row.name.c_str(), row.dtype.c_str(), static_cast<long long>(row.tokens));
  if (!wrong.empty()) {
    failed_ = true;
    std::printf("WRONG: %s\n", wrong.c_str());
    return;
  }
  std::vector<double> times;
  const double start = now();
  for (int64_t i = 0; i < 3 || now() - start < seconds_; i++) {
    const double before = now();
    call(i);
    times.push_back(now() - before);
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2], best = times[0];
  const bool bytes = row.bound == Bound::kBytes;
  const double ceiling = bytes ? ceiling_.read_gb_s : ceiling_.gflop_s;
  const double rate = row.amount / median * 1e-9;
  std::printf("%10.1f us  %8.2f %s  %5.1f %%   best %10.1f us  %5.1f %%\n", median * 1e6, rate, bytes ? "GB/s    " : "GFLOP/s ",
              100.0 * rate / ceiling, best * 1e6, 100.0 * row.amount / best * 1e-9 / ceiling);
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

static bool run_all(const cpu::Isa& isa, int threads, const Options& options) {
  cpu::ThreadPool pool(threads);
  Ceiling ceiling;
  measure_ceiling(isa.name, pool, &ceiling);
  std::printf("\n%s, %d thread%s: ceilings %.1f GB/s read, %.0f GFLOP/s f32\n", isa.name, threads, threads == 1 ? "" : "s",
              ceiling.read_gb_s, ceiling.gflop_s);
  Run run(isa, pool, ceiling, options.seconds);
  for (const Bench& bench : registry()) {
    if (std::strstr(bench.name, options.name.c_str()) == nullptr) continue;
    // Again before each bench: on a shared machine the ceiling drifts, and the best seen is the honest one.
    measure_ceiling(isa.name, pool, &ceiling);
    bench.run(run);
  }
  std::printf("ceilings at the end: %.1f GB/s read, %.0f GFLOP/s f32\n", ceiling.read_gb_s, ceiling.gflop_s);
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
