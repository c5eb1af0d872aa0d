// The choice of an instruction set by a measurement: which instruction wins differs between chips
// that report the same features.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "host/platform.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "isa.h"

namespace moepp::cpu {

namespace {

// Small enough for a second-level cache: some milliseconds for all sets.
constexpr int64_t kInputs = 512, kOutputs = 256;
// A decode step's one row, and a prefill's: enough for the prefill paths.
constexpr int64_t kDecodeRows = 1, kPrefillRows = 64;
// the best counts: the first has cold caches, and others may share the core with other work
constexpr int kCalls = 4;

// A later set must be faster than the best before by this factor, as the product over decode,
// prefill and attention. Sets differ in the last bits of results, so that a choice within the noise
// of a measurement would make runs of one machine differ.
constexpr double kMargin = 1.5;

// The best of some calls, in seconds.
template <class Call>
double seconds_of(const Call& call) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kCalls; i++) {
    const auto start = std::chrono::steady_clock::now();
    call();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// One linear with weights of a dtype, [kOutputs, kInputs] in panels.
class Product {
 public:
  Product(DType dtype, bool may_round_x)
      : may_round_x_(may_round_x),
        weight_bytes_(panel_count(Layout::kMatrix, kOutputs) * panel_bytes(dtype, kInputs)),
        weight_(static_cast<std::byte*>(allocate_pages(weight_bytes_))) {
    if (weight_ != nullptr && dtype == DType::kBf16) {  // zeros are as good for integers
      const uint16_t value = 0x3c24;                    // 0.01
      for (int64_t at = 0; at < weight_bytes_; at += 2) std::memcpy(weight_ + at, &value, 2);
    }
    w_.data = weight_;
    w_.dtype = dtype;
    w_.layout = Layout::kMatrix;
    x_.data = x_values_.data();
    out_.data = out_values_.data();
    w_.rank = x_.rank = out_.rank = 2;
    w_.shape[0] = out_.shape[1] = kOutputs;
    w_.shape[1] = x_.shape[1] = kInputs;
  }
  ~Product() {
    if (weight_ != nullptr) release_pages(weight_, weight_bytes_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  bool has_memory() const { return weight_ != nullptr; }

  // Seconds of decode times seconds of prefill.
  double cost(const Isa& isa) { return seconds(isa, kDecodeRows) * seconds(isa, kPrefillRows); }

 private:
  double seconds(const Isa& isa, int64_t rows) {
    x_.shape[0] = out_.shape[0] = rows;
    const LinearArgs args = {&x_, &w_, &out_, Activation::kNone, may_round_x_};
    return seconds_of([&] { isa.kernels->linear(args, pool_); });
  }

  ThreadPool pool_{1};
  std::vector<float> x_values_ =
      std::vector<float>(static_cast<size_t>(kPrefillRows * kInputs), 0.5f);
  std::vector<float> out_values_ = std::vector<float>(static_cast<size_t>(kPrefillRows * kOutputs));
  bool may_round_x_;
  int64_t weight_bytes_;
  std::byte* weight_;
  Tensor x_, w_, out_;
};

// One head's attention over a bf16 cache: a prefill's last rows.
class BriefAttention {
 public:
  BriefAttention() {
    for (int64_t t = 0; t < kRows; t++) positions_[t] = static_cast<int32_t>(kKeys - kRows + t);
    cache_ = {pages_.data(), DType::kBf16, 1, kKeys / kPage, kPage, 1, kDim, kDim};
    describe(q_, q_values_.data(), DType::kF32, {kRows, 1, kDim});
    describe(out_, out_values_.data(), DType::kF32, {kRows, kDim});
    describe(positions_tensor_, positions_, DType::kI32, {kRows});
    describe(starts_tensor_, starts_, DType::kI32, {2});
    describe(table_tensor_, table_, DType::kI32, {1, kKeys / kPage});
  }
  BriefAttention(const BriefAttention&) = delete;
  BriefAttention& operator=(const BriefAttention&) = delete;

  double seconds(const Isa& isa) {
    const AttentionArgs args = {
        &q_, &positions_tensor_, &starts_tensor_, &table_tensor_, &cache_, &out_, 0, 0.125f};
    return seconds_of([&] { isa.kernels->attention(args, pool_); });
  }

 private:
  static constexpr int64_t kRows = 64, kKeys = 256, kPage = 64, kDim = 64;

  static void describe(Tensor& tensor, void* data, DType dtype,
                       std::initializer_list<int64_t> shape) {
    tensor.data = data;
    tensor.dtype = dtype;
    for (int64_t size : shape) tensor.shape[tensor.rank++] = size;
  }

  ThreadPool pool_{1};
  std::vector<uint16_t> pages_ = std::vector<uint16_t>(static_cast<size_t>(2 * kKeys * kDim));
  std::vector<float> q_values_ = std::vector<float>(static_cast<size_t>(kRows * kDim), 0.5f),
                     out_values_ = q_values_;
  int32_t positions_[kRows], starts_[2] = {0, kRows}, table_[kKeys / kPage] = {0, 1, 2, 3};
  KvView cache_;
  Tensor q_, out_, positions_tensor_, starts_tensor_, table_tensor_;
};

const Isa* measure(DType dtype, bool may_round_x = false) {
  const std::vector<Isa>& isas = available_isas();
  const Isa* best = &isas.front();
  if (isas.size() <= 2) return best;  // scalar is no rival
  Product product(dtype, may_round_x);
  if (!product.has_memory()) return best;
  BriefAttention attention;
  const bool bf16_cache = is_quantised(dtype) || may_round_x;
  const auto cost_of = [&](const Isa& isa) {
    return product.cost(isa) * (bf16_cache ? attention.seconds(isa) : 1.0);
  };
  double best_cost = cost_of(*best);
  for (size_t i = 1; i + 1 < isas.size(); i++) {
    const double cost = cost_of(isas[i]);
    if (cost * kMargin >= best_cost) continue;
    // Other work may have had the core while the best before was measured.
    best_cost = std::min(best_cost, cost_of(*best));
    if (cost * kMargin >= best_cost) continue;
    best = &isas[i];
    best_cost = cost;
  }
  return best;
}

}  // namespace

const Isa& fastest_isa(DType weights, bool may_round_x) {
  if (is_quantised(weights)) {
    // int4 weights use the same instructions
    static const Isa* const fastest = measure(DType::kI8);
    return *fastest;
  }
  if (may_round_x) {
    static const Isa* const fastest = measure(DType::kBf16, true);
    return *fastest;
  }
  static const Isa* const fastest = measure(DType::kBf16);
  return *fastest;
}

}  // namespace moepp::cpu
