// The buffers that one step brings, and the checks of their integers. Buffers that ops write are
// trusted.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "common.h"

namespace moepp {

// Each check returns the fault in words, or "". A tensor already seen is not checked again.
class StepInputs {
 public:
  explicit StepInputs(std::function<bool(const Tensor*)> has) : has_(std::move(has)) {}

  bool has(const Tensor* tensor) const { return has_(tensor); }
  // Every element must lie in [0, limit).
  std::string out_of_range(const char* what, const Tensor* tensor, int64_t limit);
  std::string bad_starts(const Tensor* sequence_starts, int64_t tokens);
  std::string bad_pages(const Tensor* positions, const Tensor* starts, const Tensor* page_table,
                        const KvView& cache);

 private:
  bool first_time(const void* a, const void* b) { return seen_.insert({a, b}).second; }

  std::function<bool(const Tensor*)> has_;
  std::set<std::pair<const void*, const void*>> seen_;
};

}  // namespace moepp
