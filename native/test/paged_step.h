// A step of several sequences over a paged KV cache, for the tests of rope_store and attention and
// for the benches.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>

#include "compare.h"
#include "cpu/kv_layout.h"

namespace moepp::test {

struct SequenceSpec {
  int64_t before, tokens;  // tokens in the cache already, and tokens of this step
};

struct PagedStep {
  std::vector<int32_t> positions, starts, page_table;
  int64_t tokens = 0, pages = 1, columns = 1;  // columns of the page table

  // Pages are dealt out in a random order. Page 0 has no owner.
  PagedStep(const std::vector<SequenceSpec>& sequences, int64_t page_size) {
    starts.push_back(0);
    for (const SequenceSpec& s : sequences) {
      for (int64_t i = 0; i < s.tokens; i++)
        positions.push_back(static_cast<int32_t>(s.before + i));
      tokens += s.tokens;
      starts.push_back(static_cast<int32_t>(tokens));
      const int64_t count = (s.before + s.tokens + page_size - 1) / page_size;
      columns = std::max(columns, count);
      pages += count;
    }
    std::vector<int32_t> order(static_cast<size_t>(pages - 1));
    std::iota(order.begin(), order.end(), 1);
    std::shuffle(order.begin(), order.end(), std::mt19937(11));
    page_table.assign(sequences.size() * static_cast<size_t>(columns), 0);
    size_t next = 0;
    for (size_t b = 0; b < sequences.size(); b++) {
      const int64_t count = (sequences[b].before + sequences[b].tokens + page_size - 1) / page_size;
      for (int64_t i = 0; i < count; i++)
        page_table[b * static_cast<size_t>(columns) + static_cast<size_t>(i)] = order[next++];
    }
  }

  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
  Tensor positions_tensor() { return tensor(positions.data(), DType::kI32, {tokens}); }
  Tensor starts_tensor() { return tensor(starts.data(), DType::kI32, {sequences() + 1}); }
  Tensor page_table_tensor() {
    return tensor(page_table.data(), DType::kI32, {sequences(), columns});
  }
};

// The sequence of token t: the last that starts at or before it.
inline int64_t sequence_of(const Tensor& starts, int64_t t) {
  int64_t b = 0;
  while (starts.i32()[b + 1] <= t) b++;
  return b;
}

inline int64_t cache_elements(const KvView& kv) {
  return kv.layers * kv.pages * kv.page_elements();
}

}  // namespace moepp::test
