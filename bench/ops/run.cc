// Run: memory, checks and timing over the interface that programs use (native/device.h).
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bench.h"
#include "cpu/isa/isa.h"
#include "cpu/kv_layout.h"
#include "host/thread_pool.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace moepp::bench {

Counter* counter = nullptr;

std::vector<Bench>& registry() {
  static std::vector<Bench> benches;
  return benches;
}

int64_t integer_of(const std::string& text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string debug_words(const Device& device) {
  std::string words;
  for (const std::string& word : device.info().debug) words += (words.empty() ? "" : ",") + word;
  return words;
}

static Status enqueue(Device& device, int64_t calls, const std::function<void(int64_t)>& call) {
  for (int64_t i = 0; i < calls; i++) call(i);
  return device.launched();
}

Run::Run(std::shared_ptr<Device> device, const Sizes& sizes, const Options& options)
    : Arena(std::move(device)), sizes(sizes), options_(options) {
  Device& on = Arena::device();
  ceiling_ = on.uses_callers_memory() ? cpu_ceiling(on.info().isa, on.queue()) : cuda_ceiling(on);
}

static double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

static double best(const std::vector<double>& values, bool highest) {
  if (values.empty()) return 0.0;
  return highest ? *std::max_element(values.begin(), values.end())
                 : *std::min_element(values.begin(), values.end());
}

// The time that a row took, its rate, and the share of the ceiling: the longer of what its bytes
// and its operations need.
static void print_share(const Row& row, double time, double gb_s, double gflop_s) {
  const double for_bytes = gb_s > 0.0 ? row.bytes.all() / gb_s * 1e-9 : 0.0,
               for_flops = gflop_s > 0.0 ? row.flops / gflop_s * 1e-9 : 0.0;
  const bool bytes = for_bytes >= for_flops;
  const double scale = bytes || gflop_s < 1e4 ? 1e-9 : 1e-12;
  std::printf("%10.1f us %7.2f of %6.1f %s %5.1f %%", time * 1e6,
              (bytes ? row.bytes.all() : row.flops) / time * scale,
              bytes ? gb_s : gflop_s * scale * 1e9,
              bytes          ? "GB/s   "
              : scale < 1e-9 ? "TFLOP/s"
                             : "GFLOP/s",
              100.0 * std::max(for_bytes, for_flops) / time);
}

// On a GPU the calls are recorded once and replayed, as programs replay steps: no time goes by
// between kernels.
class Timer {
 public:
  Timer(Device& device, int64_t calls, const std::function<void(int64_t)>& call)
      : device_(device), calls_(calls), call_(call) {
    if (device.runs_at_once()) return;
    // without graphs they run at once, and nothing is recorded
    test::run_step(device, [&] {
      return device.record([&] { return enqueue(device, calls, call); }, &recording_);
    });
    seconds();  // the first replay prepares more
  }

  double seconds() {
    double start = now();
    if (device_.runs_at_once()) {
      for (int64_t i = 0; i < calls_; i++) call_(next_++);
    } else {
      test::run_step(device_, [&] {
        start = now();
        return recording_ != nullptr ? device_.replay(*recording_)
                                     : enqueue(device_, calls_, call_);
      });
    }
    return (now() - start) / static_cast<double>(calls_);
  }

 private:
  Device& device_;
  int64_t calls_, next_ = 0;
  const std::function<void(int64_t)>& call_;
  std::unique_ptr<Recording> recording_;
};

double seconds_of(Device& device, int64_t calls, const std::function<void(int64_t)>& call) {
  return Timer(device, calls, call).seconds();
}

Run::Samples Run::sample(const Row& row, const std::function<void(int64_t)>& call) {
  constexpr double kReplay = 2e-3;  // seconds, long against the wait for its end
  constexpr int64_t kMostCalls = 256;
  const bool at_once = device().runs_at_once();
  const double once = at_once ? 0.0 : seconds_of(device(), 1, call);
  Timer timer(device(),
              at_once ? 1 : std::min<int64_t>(kMostCalls, static_cast<int64_t>(kReplay / once) + 1),
              call);
  Samples samples;
  const double start = now();
  for (int i = 0; i < 5 || now() - start < options_.seconds; i++) {
    if (ceiling_ != nullptr && row.flops > 0.0)
      samples.gflop_s.push_back(ceiling_->gflop_s(row.dtype, row.also));
    if (ceiling_ != nullptr && row.bytes.all() > 0.0)
      samples.gb_s.push_back(row.bytes.mostly_read() ? ceiling_->read_gb_s()
                                                     : ceiling_->copy_gb_s());
    samples.times.push_back(timer.seconds());
  }
  return samples;
}

void Run::once(const std::function<void(int64_t)>& call) {
  test::run_step(device(), [&] { return enqueue(device(), 1, call); });
}

bool Run::attempt(const std::string& name, const std::function<void()>& bench) {
  std::string reason;
  bool too_large = true;
  try {
    bench();
    return true;
  } catch (const Failure& failure) {
    reason = failure.what();
    too_large = failure.code == Code::kOutOfMemory;
  } catch (const std::bad_alloc&) {
    reason = "the host has not enough memory";
  }
  if (!in_row_) std::printf("%-40s ", name.c_str());
  in_row_ = false;
  (too_large ? counts_.too_large : counts_.failed)++;
  std::printf("%s: %s\n", too_large ? "does not fit" : "FAILED", reason.c_str());
  const Status fault = device().fault();
  if (!fault.ok())
    std::printf("the device is lost, nothing more can run: %s\n", fault.message.c_str());
  std::fflush(stdout);
  return fault.ok();
}

bool Run::wants(const std::string& name, int64_t tokens) const {
  return (options_.tokens == 0 || tokens == options_.tokens) &&
         name.find(options_.row) != std::string::npos;
}

void Run::row(const Row& row, const std::function<std::string()>& check,
              const std::function<void(int64_t)>& call) {
  if (!wants(row.name, row.tokens)) return;
  counts_.rows++;
  in_row_ = true;
  if (counter != nullptr) return count(row, call);
  std::printf("%-40s %-5s %5lld ", row.name.c_str(), dtype_name(row.dtype),
              static_cast<long long>(row.tokens));
  std::fflush(stdout);  // a kernel that hangs is known by its row
  once(call);
  const std::string wrong = check();
  if (!wrong.empty()) {
    counts_.wrong++;
    std::printf("WRONG: %s\n", wrong.c_str());
  } else if (options_.check_only) {
    std::printf("right\n");
  } else {
    time(row, call);
  }
  std::fflush(stdout);
  in_row_ = false;
}

void Run::time(const Row& row, const std::function<void(int64_t)>& call) {
  const Samples samples = sample(row, call);
  print_share(row, median(samples.times), median(samples.gb_s), median(samples.gflop_s));
  std::printf("   best ");
  print_share(row, best(samples.times, false), best(samples.gb_s, true),
              best(samples.gflop_s, true));
  std::printf("\n");
}

static Moved operator-(const Moved& a, const Moved& b) {
  return {a.launches - b.launches, a.asked - b.asked, a.requests - b.requests, a.l2 - b.l2,
          a.kernels - b.kernels,   a.step - b.step,   a.memory - b.memory};
}

// A line of a table in Markdown, in MB of 10^6 bytes.
static std::string line_of(const std::string& name, const Moved& moved) {
  char text[200];
  std::snprintf(text, sizeof text, "| %s | %lld | %.3f | %.3f | %.3f | %.3f | %.3f | %.3f |",
                name.c_str(), static_cast<long long>(moved.launches), moved.asked * 1e-6,
                moved.requests * 1e-6, moved.l2 * 1e-6, moved.kernels * 1e-6, moved.step * 1e-6,
                moved.memory * 1e-6);
  return text;
}

void Run::part(const std::string& name, const std::function<void()>& work) {
  if (counter == nullptr || !in_row_) return work();
  const Moved before = counter->moved();
  work();
  parts_ += line_of("- " + name, counter->moved() - before) + "  |  |  |\n";
}

void Run::count(const Row& row, const std::function<void(int64_t)>& call) {
  parts_.clear();
  counter->start();
  once(call);
  const Moved moved = counter->moved();
  const std::string name =
      row.name + ", " + dtype_name(row.dtype) + ", " + std::to_string(row.tokens);
  const double least = row.bytes.all();
  std::printf("%s %.3f | %.0f %% | %.1f |\n%s", line_of(name, moved).c_str(), least * 1e-6,
              100.0 * least / moved.memory, row.flops / moved.l2, parts_.c_str());
  std::fflush(stdout);
  in_row_ = false;
}

// The median of each of several kinds of work, which take turns.
std::vector<double> Run::compare(const std::vector<std::function<void(int64_t)>>& calls,
                                 int rounds) {
  std::vector<std::unique_ptr<Timer>> timers;
  for (const auto& call : calls) timers.push_back(std::make_unique<Timer>(device(), 1, call));
  std::vector<std::vector<double>> times(calls.size());
  const double start = now();
  for (int round = 0; round < rounds || now() - start < options_.seconds; round++) {
    for (size_t i = 0; i < calls.size(); i++) times[i].push_back(timers[i]->seconds());
  }
  std::vector<double> medians;
  for (const auto& list : times) medians.push_back(median(list));
  return medians;
}

std::vector<Target> targets(const Options& options) {
  std::vector<Target> found;
  const auto add_cpu = [&](const char* isa, int threads) {
    std::shared_ptr<Device> device;
    must(open_cpu_device(threads, isa, &device));
    found.push_back({device, std::string(isa) + ", " + std::to_string(threads) +
                                 (threads == 1 ? " thread" : " threads")});
  };
  for (const cpu::Isa& isa : cpu::available_isas()) {
    if (options.device == "cuda" || (!options.isa.empty() && options.isa != isa.name)) continue;
    const int available = available_threads();
    if (options.threads > 0) add_cpu(isa.name, options.threads);
    for (int threads = 1; options.threads == 0; threads = std::min(2 * threads, available)) {
      add_cpu(isa.name, threads);
      if (threads >= available) break;
    }
  }
  const bool has_gpu = cuda_info().devices > 0;
  if (options.device == "cuda" ||
      (has_gpu && options.device.empty() && options.isa.empty() && options.threads == 0)) {
    std::shared_ptr<Device> device;
    must(open_cuda_device(0, &device));
    found.push_back({device, device->info().model + " (" + device->info().isa + ")"});
  }
  if (found.empty())
    must(Status::error(Code::kUnsupported,
                       "isa is " + options.isa + ", expected one that this processor can run"));
  return found;
}

}  // namespace moepp::bench
