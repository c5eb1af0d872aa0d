// The ceilings of a processor, as `moepp bench` measures them, but for some milliseconds each.
#include <algorithm>
#include <cstring>

#include "bench.h"
#include "cpu/compute_peaks.h"
#include "cpu/read_bandwidth.h"

namespace moepp::bench {

namespace {

constexpr int64_t kRead = int64_t{32} << 20, kMostMemory = int64_t{2} << 30;  // bytes
constexpr int64_t kRuns = 8;  // of a loop by each thread

// Of two bf16: for attention, and for rounded x.
bool multiplies_pairs(const char* instruction) {
  return std::strcmp(instruction, "bf16_dot") == 0 || std::strcmp(instruction, "bf16_mmla") == 0;
}

bool may_use(DType weights, const char* instruction) {
  if (multiplies_pairs(instruction)) return false;
  return std::strncmp(instruction, "f32_", 4) == 0 ||
         (weights != DType::kF32 &&
          std::strncmp(instruction, is_quantised(weights) ? "int8_" : "bf16_", 5) == 0);
}

class CpuCeiling final : public Ceiling {
 public:
  CpuCeiling(const std::string& isa, ThreadPool& pool)
      : loops_(cpu::peak_loops(isa)), pool_(pool) {}

  double read_gb_s() override {
    static cpu::ReadBandwidth memory(kMostMemory);  // for all runs
    double bytes_per_second = 0;
    must(memory.measure(kRead, pool_, &bytes_per_second));
    return 1e-9 * bytes_per_second;
  }
  // Of a processor, reading is the ceiling of everything.
  double copy_gb_s() override { return read_gb_s(); }

  double gflop_s(DType weights, const char* also) override {
    double best = 0;
    for (const cpu::PeakLoop& loop : loops_) {
      if (may_use(weights, loop.name) || (*also != '\0' && multiplies_pairs(loop.name)))
        best = std::max(best, 1e-9 * cpu::peak_rate(loop, kRuns, pool_));
    }
    return best;
  }

 private:
  const std::vector<cpu::PeakLoop> loops_;
  ThreadPool& pool_;
};

}  // namespace

std::unique_ptr<Ceiling> cpu_ceiling(const std::string& isa, Queue& queue) {
  return std::make_unique<CpuCeiling>(isa, static_cast<ThreadPool&>(queue));
}

}  // namespace moepp::bench
