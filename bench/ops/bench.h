// The frame of the native microbenchmarks. A bench is a function registered by MOEPP_BENCH; it is run once per instruction set
// and number of threads, and hands each of its rows to Run::row, which refuses to time a kernel whose check failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cpu/isa/isa.h"
#include "cpu/thread_pool.h"

namespace moepp::bench {

// The ceilings: what the pool's threads can do, measured once now (a few milliseconds). On a shared machine both drift within
// seconds, by a factor for memory, so a row measures its ceiling between its own calls.
double read_gb_s(const std::string& isa, cpu::ThreadPool& pool);  // reading memory that no cache holds
double gflop_s(const std::string& isa, cpu::ThreadPool& pool);    // f32 multiply-adds in registers, two operations each
// The same for 8-bit integers summed in 32 bits: the set's instruction for four products, or for two products of 16 bits and
// an addition.
double int8_gop_s(const std::string& isa, cpu::ThreadPool& pool);
// Products of AMX tiles of bf16 or of bytes; only where the set "amx" is available.
double tile_gop_s(bool bytes, cpu::ThreadPool& pool);

struct Row {
  std::string name;   // "linear 1536 -> 4608"
  std::string dtype;  // of the weights or of the cache
  int64_t tokens = 0;
  double bytes = 0.0;  // that one call must read or write, once each; 0 if they do not matter
  double flops = 0.0;  // that one call must do; 0 likewise
  bool int8 = false;   // these are operations on 8-bit integers
};

class Run {
 public:
  Run(const cpu::Isa& isa, cpu::ThreadPool& pool, double seconds) : isa(isa), pool(pool), seconds_(seconds) {}

  const cpu::Isa& isa;
  cpu::ThreadPool& pool;

  // Times call(i), i = 0, 1, ..., in turn with the ceiling, for the seconds of the run; prints the medians and,
  // since other work on the machine can only slow a call down, the best. The ceiling is the time that the row's bytes or its
  // operations need, whichever is longer. `wrong` says what the check against the reference found; when it is not empty, nothing
  // is timed and the program fails.
  void row(const Row& row, const std::string& wrong, const std::function<void(int64_t)>& call);
  bool failed() const { return failed_; }

 private:
  double seconds_;
  bool failed_ = false;
};

struct Bench {
  const char* name;
  void (*run)(Run& run);
};

std::vector<Bench>& registry();

struct Registration {
  Registration(const char* name, void (*run)(Run&)) { registry().push_back({name, run}); }
};

double now();  // seconds of a steady clock

// Zeroed memory for benches, aligned to 2 MiB and on huge pages where the system gives them, as the device's own.
class Buffer {
 public:
  explicit Buffer(size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_;
  size_t bytes_;
};

}  // namespace moepp::bench

#define MOEPP_BENCH(name)                                                      \
  static void name(::moepp::bench::Run& run);                                  \
  static const ::moepp::bench::Registration name##_registration(#name, &name); \
  static void name(::moepp::bench::Run& run)
