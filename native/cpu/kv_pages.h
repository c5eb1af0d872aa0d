// Pages of the CPU's KV cache, from and to the order of Device::read_page.
#pragma once

#include "kv_layout.h"

namespace moepp::cpu {

// Calls `visit` with the place of each element of a page, in that order.
template <class Visit>
void visit_page(const KvView& kv, int64_t layer, int64_t page, const Visit& visit) {
  for (int64_t head = 0; head < kv.kv_heads; head++) {
    const int64_t keys = kv_keys(kv, layer, page, head), values = kv_values(kv, layer, page, head);
    for (int64_t s = 0; s < kv.page_size; s++)
      for (int64_t d = 0; d < kv.key_dim; d++) visit(keys + kv_key(kv, s, d));
    for (int64_t s = 0; s < kv.page_size; s++)
      for (int64_t d = 0; d < kv.value_dim; d++) visit(values + kv_value(kv, s, d));
  }
}

inline void read_page(const KvView& kv, int64_t layer, int64_t page, float* out) {
  if (kv.dtype == DType::kF32) {
    const auto* elements = static_cast<const float*>(kv.data);
    visit_page(kv, layer, page, [&](int64_t i) { *out++ = elements[i]; });
  } else {
    const auto* elements = static_cast<const uint16_t*>(kv.data);
    visit_page(kv, layer, page, [&](int64_t i) { *out++ = bf16_to_f32(elements[i]); });
  }
}

inline void write_page(const KvView& kv, int64_t layer, int64_t page, const float* from) {
  if (kv.dtype == DType::kF32) {
    auto* elements = static_cast<float*>(kv.data);
    visit_page(kv, layer, page, [&](int64_t i) { elements[i] = *from++; });
  } else {
    auto* elements = static_cast<uint16_t*>(kv.data);
    visit_page(kv, layer, page, [&](int64_t i) { elements[i] = f32_to_bf16(*from++); });
  }
}

}  // namespace moepp::cpu
