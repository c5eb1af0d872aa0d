// The checks that shapes alone cannot express: relations between the sizes of one op, and the
// integers of a step. A kernel may trust both.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "program.h"

namespace moepp {

// The broken relation in words, or "". Shapes may hold Symbols.
std::string broken_relation(const AnyArgs& args);

// The fault of a weight that ops read in this order, in words that follow its name, or "".
std::string broken_weight(const WeightSpec& spec, Layout order);

// Checks the integer inputs of one step. Buffers that ops write are trusted; pairs already seen are
// not checked again.
class DataChecker {
 public:
  explicit DataChecker(std::function<bool(const Tensor*)> is_input)
      : is_input_(std::move(is_input)) {}

  // The fault in words, or "".
  std::string fault(const AnyArgs& args);

 private:
  std::string fault_of(const EmbeddingArgs& args);
  std::string fault_of(const RopeTableArgs& args);
  std::string fault_of(const RopeStoreArgs& args);
  std::string fault_of(const AttentionArgs& args);
  std::string fault_of(const GatherRowsArgs& args);
  std::string fault_of(const GroupedGemmArgs& args);
  std::string fault_of(const CombineArgs& args);
  template <class Args>
  std::string fault_of(const Args&) {
    return {};
  }

  // Every element of an integer input lies in [0, limit).
  std::string out_of_range(const char* what, const Tensor* tensor, int64_t limit);
  std::string bad_starts(const Tensor* sequence_starts, int64_t tokens);
  std::string bad_pages(const Tensor* positions, const Tensor* starts, const Tensor* page_table,
                        const KvView& cache);
  bool first_time(const void* a, const void* b) { return seen_.insert({a, b}).second; }

  std::function<bool(const Tensor*)> is_input_;
  std::set<std::pair<const void*, const void*>> seen_;
};

}  // namespace moepp
