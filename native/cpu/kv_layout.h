// The order of elements in the CPU's KV cache. Within a page the keys lie [D][S]: one vector holds
// the same dimension of many keys, and scores need no horizontal sums. The values lie [S][Dv]. In
// bf16 the two elements whose products one instruction may add lie side by side: keys [D /
// 2][S][2], values [S / 2][Dv][2]. D, Dv and S are even.
#pragma once

#include "ops.h"

namespace moepp::cpu {

// First element of the keys of one head in one page.
static inline int64_t kv_keys(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return (layer * kv.pages + page) * kv.page_elements() +
         head * (kv.key_dim + kv.value_dim) * kv.page_size;
}

// First element of the values of one head in one page.
static inline int64_t kv_values(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return kv_keys(kv, layer, page, head) + kv.key_dim * kv.page_size;
}

// Of those, dimension d of the key, or of the value, of row s in the page.
static inline int64_t kv_key(const KvView& kv, int64_t s, int64_t d) {
  return kv.dtype == DType::kBf16 ? (d / 2 * kv.page_size + s) * 2 + d % 2 : d * kv.page_size + s;
}
static inline int64_t kv_value(const KvView& kv, int64_t s, int64_t d) {
  return kv.dtype == DType::kBf16 ? (s / 2 * kv.value_dim + d) * 2 + s % 2 : s * kv.value_dim + d;
}

}  // namespace moepp::cpu
