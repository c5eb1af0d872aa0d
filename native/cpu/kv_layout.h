// The order of elements in the CPU's KV cache. Within a page the keys lie [D][S], so that one vector holds the same dimension
// of many keys and scores need no horizontal sums; the values lie [S][D].
#pragma once

#include "ops.h"

namespace moepp::cpu {

// Elements of one page of one layer.
static inline int64_t kv_page_elements(const KvView& kv) {
  return kv.kv_heads * 2 * kv.head_dim * kv.page_size;
}

// First element of the keys [D][S] of one head in one page.
static inline int64_t kv_keys(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return (layer * kv.pages + page) * kv_page_elements(kv) + head * 2 * kv.head_dim * kv.page_size;
}

// First element of the values [S][D] of one head in one page.
static inline int64_t kv_values(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return kv_keys(kv, layer, page, head) + kv.head_dim * kv.page_size;
}

}  // namespace moepp::cpu
