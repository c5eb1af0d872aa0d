// The frame of the native microbenchmarks, the same for every device. MOEPP_BENCH registers a
// bench, which is a function. It runs once per device; on the CPU, once per instruction set and
// number of threads. It hands its rows to Run::row, which refuses to time a kernel whose check
// failed.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "sizes.h"

namespace moepp::bench {

double now();  // seconds of a steady clock

// Of an option. Not atoll, which would bind the program to the C library of the building machine.
int64_t integer_of(const std::string& text);

using namespace test;  // arenas and arrays

// The words of MOEPP_CUDA_DEBUG that the device goes by, with commas; or empty.
std::string debug_words(const Device& device);

// Seconds of each of `calls` calls that are put into the queue one behind the other.
double seconds_of(Device& device, int64_t calls, const std::function<void(int64_t)>& call);

// A device's ceilings, measured now (some milliseconds). On a shared machine they drift within
// seconds, by a factor for memory. So a row measures its ceiling between its own calls.
class Ceiling {
 public:
  virtual ~Ceiling() = default;
  // Of memory that no cache holds: bytes read, or read + written.
  virtual double read_gb_s() = 0;
  virtual double copy_gb_s() = 0;
  // Multiply-adds in registers, two operations each: the fastest of those for weights of this type,
  // and of `also` on a CPU.
  virtual double gflop_s(DType weights, const char* also = "") = 0;
};
std::unique_ptr<Ceiling> cpu_ceiling(const std::string& isa, Queue& queue);
std::unique_ptr<Ceiling> cuda_ceiling(Device& device);  // null in a build without CUDA

// The bytes that a row's kernels read and wrote, as simt::emu::Traffic has them
// (native/test/emulator/traffic/traffic.h).
struct Moved {
  int64_t launches = 0;
  double asked = 0.0, requests = 0.0, l2 = 0.0, kernels = 0.0, step = 0.0, memory = 0.0;
};
// The counters of an emulated GPU. A program that has them counts its rows instead of timing them.
class Counter {
 public:
  virtual ~Counter() = default;
  virtual void start() = 0;         // from 0 on, with empty caches
  virtual Moved moved() const = 0;  // since start()
};
extern Counter* counter;  // null: rows are timed

struct Options {
  std::string device, isa, name, row;  // empty: all; name and row are parts of names
  bool exact = false, list = false;    // `name` is whole; names are printed, nothing is run
  int64_t tokens = 0;                  // rows of so many tokens; 0: all
  int threads = 0;
  int64_t layers = 0;  // of whole steps; 0: as many as the sizes say
  double seconds = 0.5;
  bool check_only = false;  // nothing is timed
};

struct Bytes {
  Bytes() = default;
  Bytes(double of_reads, double of_writes) : read(of_reads), written(of_writes) {}
  double read = 0.0, written = 0.0;
  double all() const { return read + written; }
  // Against the ceiling of reading, else of copying.
  bool mostly_read() const { return written < 0.1 * read; }
};

struct Row {
  std::string name;  // "linear 1536 -> 4608"
  DType dtype;       // of the weights or of the cache
  int64_t tokens = 0;
  Bytes bytes;         // that one call must read or write, once each; 0 if they do not matter
  double flops = 0.0;  // that one call must do; 0 likewise
  // an instruction that it may use beside those for `dtype` (cpu/compute_peaks.h)
  const char* also = "";
};

// Benches of one device, whose data lies in this arena.
class Run : public Arena {
 public:
  Run(std::shared_ptr<Device> device, const Sizes& sizes, const Options& options);

  const Sizes sizes;

  // True if --row and --tokens let the row run.
  bool wants(const std::string& name, int64_t tokens) const;

  // Runs call(0) and checks its results. Then it times call(i), i = 0, 1, ..., in turn with the
  // ceiling. It prints the medians and the best, since other work on the machine can only slow a
  // call down. call(i) puts one op into the queue. The ceiling is the time that the row's bytes or
  // its operations need, whichever is longer. When `check` reports a fault, nothing is timed and
  // the program fails.
  void row(const Row& row, const std::function<std::string()>& check,
           const std::function<void(int64_t)>& call);
  // A failure ends its bench, and the next one goes on.
  struct Counts {
    int rows = 0, wrong = 0, failed = 0, too_large = 0;
  };
  const Counts& counts() const { return counts_; }
  // Runs a bench and says why it ends early, if it does. False: the device is lost.
  bool attempt(const std::string& name, const std::function<void()>& bench);

  // The check of an op whose arguments do not change from call to call.
  template <class Args, class Check>
  void row(const Row& what, const Args& args, const Check& check,
           const std::function<void(int64_t)>& call) {
    row(
        what, [&] { return check(on_host(args)); }, call);
  }
  // Likewise, where every call has these arguments.
  template <class Args, class Check>
  void op_row(const Row& what, const Args& args, const Check& check) {
    row(what, args, check,
        [&](int64_t) { test::kernel_of(kernels(), args)(args, device().queue()); });
  }

  // A part of a row's call. It gets a line of its own if rows are counted.
  void part(const std::string& name, const std::function<void()>& work);

  // Runs call(0) to its end.
  void once(const std::function<void(int64_t)>& call);

  // The median seconds of each of several kinds of work, which take turns: so many rounds, and for
  // the seconds of the run.
  std::vector<double> compare(const std::vector<std::function<void(int64_t)>>& calls, int rounds);

 private:
  struct Samples {
    std::vector<double> times, gb_s, gflop_s;
  };
  void time(const Row& row, const std::function<void(int64_t)>& call);
  void count(const Row& row, const std::function<void(int64_t)>& call);
  Samples sample(const Row& row, const std::function<void(int64_t)>& call);

  std::unique_ptr<Ceiling> ceiling_;
  const Options options_;
  Counts counts_;
  bool in_row_ = false;
  std::string parts_;  // lines of the counted row's
};

struct Bench {
  const char* name;
  void (*run)(Run& run);
};

std::vector<Bench>& registry();

struct Registration {
  Registration(const char* name, void (*run)(Run&)) { registry().push_back({name, run}); }
};

// The devices that the options name: the CPU once per instruction set and number of threads, then
// the first GPU.
struct Target {
  std::shared_ptr<Device> device;
  std::string name;  // "avx512, 2 threads"
};
std::vector<Target> targets(const Options& options);

// moepp-native bench [options]; see main.cc.
int run_benches(int argc, char** argv);

}  // namespace moepp::bench

#define MOEPP_BENCH(name)                                                       \
  static void bench_##name(::moepp::bench::Run& run);                           \
  static const ::moepp::bench::Registration name##_bench(#name, &bench_##name); \
  static void bench_##name(::moepp::bench::Run& run)
