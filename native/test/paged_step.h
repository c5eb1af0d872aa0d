// A step of several sequences over a paged KV cache, and what references read there.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>

#include "compare.h"
#include "cpu/kv_layout.h"

namespace moepp::test {

struct SequenceSpec {
  int64_t before, tokens;  // tokens in the cache already, and tokens of this step

  // The first position that any of them sees.
  int64_t first_seen(int64_t window) const {
    return window > 0 ? std::max<int64_t>(0, before + 1 - window) : 0;
  }
};

struct PagedStep {
  std::vector<int32_t> positions, starts, page_table;
  int64_t tokens = 0, pages = 1, columns = 1;  // columns of the page table

  const std::vector<SequenceSpec> specs;
  const int64_t page_size, window;

  // Pages that no token sees lie nowhere: an access to one ends the test.
  static constexpr int32_t kNoPage = 1 << 24;

  // Pages are dealt out in a random order. Page 0 has no owner.
  PagedStep(const std::vector<SequenceSpec>& sequences, int64_t page_size, int64_t window = 0)
      : specs(sequences), page_size(page_size), window(window) {
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
      const int64_t unseen = sequences[b].first_seen(window) / page_size;
      for (int64_t i = 0; i < count; i++, next++)
        page_table[b * static_cast<size_t>(columns) + static_cast<size_t>(i)] =
            i < unseen ? kNoPage : order[next];
    }
  }

  int64_t page(int64_t sequence, int64_t position) const {
    return page_table[static_cast<size_t>(sequence * columns + position / page_size)];
  }
  // The first and the last token of each sequence.
  std::vector<int64_t> ends() const {
    std::vector<int64_t> tokens;
    for (size_t b = 0; b + 1 < starts.size(); b++) {
      const int64_t first = starts[b], last = starts[b + 1] - 1;
      if (last >= first) tokens.push_back(first);
      if (last > first) tokens.push_back(last);
    }
    return tokens;
  }
  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
  Tensor positions_tensor() { return tensor(positions.data(), DType::kI32, {tokens}); }
  Tensor starts_tensor() { return tensor(starts.data(), DType::kI32, {sequences() + 1}); }
  Tensor page_table_tensor() {
    return tensor(page_table.data(), DType::kI32, {sequences(), columns});
  }
};

// The sequence of token t: the last that starts at or before it.
inline int64_t sequence_of(const int32_t* starts, int64_t t) {
  int64_t b = 0;
  while (starts[b + 1] <= t) b++;
  return b;
}

// The keys and values of a token's sequence, in a cache in the CPU's order.
class Context {
 public:
  template <class Args>  // of rope_store or attention
  Context(const Args& args, int64_t t)
      : kv_(*args.cache),
        layer_(args.layer),
        pages_(args.page_table->i32() +
               sequence_of(args.sequence_starts->i32(), t) * args.page_table->shape[1]) {}

  double key(int64_t head, int64_t position, int64_t i) const {
    return element(cpu::kv_keys(kv_, layer_, page(position), head) +
                   cpu::kv_key(kv_, position % kv_.page_size, i));
  }
  double value(int64_t head, int64_t position, int64_t i) const {
    if (kv_.holds_latents()) return key(head, position, i);
    return element(cpu::kv_values(kv_, layer_, page(position), head) +
                   cpu::kv_value(kv_, position % kv_.page_size, i));
  }

 private:
  int64_t page(int64_t position) const { return pages_[position / kv_.page_size]; }
  double element(int64_t index) const {
    if (kv_.dtype == DType::kF32)
      return static_cast<double>(static_cast<const float*>(kv_.data)[index]);
    return static_cast<double>(bf16_to_f32(static_cast<const uint16_t*>(kv_.data)[index]));
  }

  const KvView& kv_;
  int64_t layer_;
  const int32_t* pages_;
};

inline int64_t cache_elements(const KvView& kv) {
  return kv.layers * kv.pages * kv.page_elements();
}

}  // namespace moepp::test
