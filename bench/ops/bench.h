// The frame of the native microbenchmarks, the same for every device. MOEPP_BENCH registers a
// bench, which is a function. It runs once per device; on the CPU, once per instruction set and
// number of threads. It hands its rows to Run::row, which refuses to time a kernel whose check
// failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"
#include "sizes.h"

namespace moepp::bench {

double now();  // seconds of a steady clock

// Of an option. Not atoll, which would bind the program to the C library of the building machine.
int64_t integer_of(const std::string& text);

// Ends the bench that called it, not the program.
struct Failure : std::runtime_error {
  explicit Failure(const Status& status) : std::runtime_error(status.message), code(status.code) {}
  Code code;
};
void must(const Status& status);  // throws Failure where it is not ok

// The words of MOEPP_CUDA_DEBUG that the device goes by, with commas; or empty.
std::string debug_words(const Device& device);

// Zeroed host memory, aligned to 2 MiB and on huge pages where the system gives them, as the
// device's own.
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

// Memory that kernels work on and references look at: on a device with memory of its own, two
// copies.
class Block;

class Run {
 public:
  Run(std::shared_ptr<Device> device, const Sizes& sizes, const Options& options);

  Device& device() { return *device_; }
  const Kernels& kernels() const { return device_->kernels(); }
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

  // The arguments as the references take them: in host memory, after what was put into the queue.
  template <class Args>
  Args on_host(Args args) {
    fetch();
    args.visit(*this);
    return args;
  }

  // Brings what the device has written to the host's copies.
  void fetch();

  // Runs call(0) to its end.
  void once(const std::function<void(int64_t)>& call);

  // The median seconds of each of several kinds of work, which take turns: so many rounds, and for
  // the seconds of the run.
  std::vector<double> compare(const std::vector<std::function<void(int64_t)>>& calls, int rounds);

  // visit() calls this, for on_host.
  void in(const char*, const Tensor*& tensor, const char*, FieldType) { tensor = twin(tensor); }
  void optional_in(const char*, const Tensor*& tensor, const char*, FieldType) {
    tensor = twin(tensor);
  }
  void weight(const char*, const Tensor*& tensor, const char*, Layout) { tensor = twin(tensor); }
  void optional_weight(const char*, const Tensor*& tensor, const char*, Layout) {
    tensor = twin(tensor);
  }
  void table(const char*, const Tensor*& tensor, const char*) { tensor = twin(tensor); }
  void out(const char*, Tensor*& tensor, const char*, FieldType) { tensor = twin(tensor); }
  void optional_out(const char*, Tensor*& tensor, const char*, FieldType) { tensor = twin(tensor); }
  void cache(const char*, const KvView*& cache);
  template <class T>
  void attribute(const char*, T&) {}
  void may_round(bool&) {}

 private:
  friend class Block;
  struct Samples {
    std::vector<double> times, gb_s, gflop_s;
  };
  void time(const Row& row, const std::function<void(int64_t)>& call);
  Samples sample(const Row& row, const std::function<void(int64_t)>& call);
  Tensor* twin(const Tensor* tensor);

  std::shared_ptr<Device> device_;
  std::unique_ptr<Ceiling> ceiling_;
  const Options options_;
  Counts counts_;
  bool in_row_ = false;
  std::vector<Block*> blocks_;
  std::deque<Tensor> twins_;
  std::deque<KvView> twin_caches_;
  std::deque<Buffer> twin_pages_;
};

// host_bytes: where the references' order of elements takes another number of bytes.
class Block {
 public:
  Block(Run& run, int64_t bytes, int64_t host_bytes = 0);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  std::byte* device() const { return device_; }
  std::byte* host() const { return host_.as<std::byte>(); }
  int64_t bytes() const { return bytes_; }
  void upload() { upload(host(), 0, bytes_); }
  // to: bytes from the block's beginning
  void upload(const std::byte* from, int64_t to, int64_t bytes);
  // to device memory, which the host's may be
  void write(const std::byte* from, int64_t to, int64_t bytes);
  void download();  // not where the order of elements differs

 private:
  friend class Run;
  Run& run_;
  int64_t bytes_;
  bool same_order_;
  Buffer host_;
  std::byte* device_;
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

#define MOEPP_BENCH(name)                                                      \
  static void name(::moepp::bench::Run& run);                                  \
  static const ::moepp::bench::Registration name##_registration(#name, &name); \
  static void name(::moepp::bench::Run& run)
