// The choice of an instruction set by a measurement: which instruction wins differs between chips that report the same features.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../panels.h"
#include "../thread_pool.h"
#include "isa.h"

namespace moepp::cpu {

namespace {

// Large enough for the many-rows paths, small enough for a second-level cache: some milliseconds for all sets.
constexpr int64_t kRows = 64, kInputs = 512, kOutputs = 256;
constexpr int kCalls = 4;  // the best counts: the first meets cold caches, and others may meet other work on the core

// A later set must be faster than the first by this factor. Sets differ in the last bits of results, so that a choice within the
// noise of a measurement would make runs of one machine differ.
constexpr double kMargin = 1.25;

class Product {
 public:
  Product() {
    const float value = 0.01f;
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    std::fill(weight_.begin(), weight_.end(), static_cast<uint16_t>(bits >> 16));
    x_.data = x_values_.data();
    x_.rank = 2;
    x_.shape[0] = kRows;
    x_.shape[1] = kInputs;
    w_ = x_;
    w_.data = weight_.data();
    w_.dtype = DType::kBf16;
    w_.layout = Layout::kPanels;
    w_.shape[0] = kOutputs;
    out_ = x_;
    out_.data = out_values_.data();
    out_.shape[1] = kOutputs;
  }

  double seconds(const Isa& isa) {
    const LinearArgs args = {&x_, &w_, &out_, Activation::kNone};
    double best = std::numeric_limits<double>::infinity();
    for (int call = 0; call < kCalls; call++) {
      const auto start = std::chrono::steady_clock::now();
      isa.kernels->linear(args, pool_);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  }

 private:
  ThreadPool pool_{1};
  std::vector<float> x_values_ = std::vector<float>(static_cast<size_t>(kRows * kInputs), 0.5f);
  std::vector<float> out_values_ = std::vector<float>(static_cast<size_t>(kRows * kOutputs));
  std::vector<uint16_t> weight_ =
      std::vector<uint16_t>(static_cast<size_t>(panel_count(Layout::kPanels, kOutputs) * panel_bytes(DType::kBf16, kInputs) / 2));
  Tensor x_, w_, out_;
};

const Isa* measure() {
  const std::vector<Isa>& isas = available_isas();
  const Isa* best = &isas.front();
  if (isas.size() <= 2) return best;  // scalar is no rival
  Product product;
  double best_seconds = product.seconds(*best);
  for (size_t i = 1; i + 1 < isas.size(); i++) {
    const double seconds = product.seconds(isas[i]);
    if (seconds * kMargin >= best_seconds) continue;
    best = &isas[i];
    best_seconds = seconds;
  }
  return best;
}

}  // namespace

const Isa& fastest_isa() {
  static const Isa* const fastest = measure();
  return *fastest;
}

}  // namespace moepp::cpu
