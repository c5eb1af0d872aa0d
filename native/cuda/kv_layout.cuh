// The order of elements in the KV cache on a GPU, and where a token finds its rows. Per layer and
// page, the heads one after another; a head has its keys [S][D], then its values [S][Dv]. Of
// latents a value is the beginning of the key, and is not stored again. A row is aligned to 16
// bytes where its elements are a multiple of 16 bytes. The whole takes the same bytes as on the
// CPU, and a page of one layer is one piece: Device::copy_page copies it as it is.
#pragma once

#include "cuda/simt/simt.h"
#include "ops.h"

namespace moepp::cuda {

// First element of the keys [S][D] of one head in one page.
SIMT_HOST_DEVICE int64_t kv_keys(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return ((layer * kv.pages + page) * kv.kv_heads + head) * (kv.key_dim + kv.value_dim) *
         kv.page_size;
}

// First element of the values [S][Dv] of one head in one page.
SIMT_HOST_DEVICE int64_t kv_values(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return kv_keys(kv, layer, page, head) + kv.page_size * kv.key_dim;
}

// One layer of the cache and the sequences of a step, as kernels take them.
struct KvStep {
  void* layer;                     // its first element
  const int32_t* positions;        // [T]
  const int32_t* sequence_starts;  // [B+1]
  const int32_t* page_table;       // [B, M]
  int sequences, columns, pages, page_size, kv_heads, key_dim, value_dim;
  bool latents;

  // The sequence of token t: the last that starts at or before it (empty ones start where the next
  // does).
  SIMT_DEVICE int sequence_of(int t) const {
    int low = 0, high = sequences;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (sequence_starts[middle] <= t) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
  // The element of the layer where the keys of a page and a head begin, and so its values.
  SIMT_DEVICE int64_t keys_of(int page, int head) const {
    const int stored = latents ? key_dim : key_dim + value_dim;
    return (static_cast<int64_t>(page) * kv_heads + head) * stored * page_size;
  }
  SIMT_DEVICE int64_t values_of(int page, int head) const {
    return keys_of(page, head) + static_cast<int64_t>(page_size) * key_dim;
  }
  SIMT_DEVICE int page_of(int sequence, int position) const {
    return page_table[static_cast<int64_t>(sequence) * columns + position / page_size];
  }
  // The beginning of the key, and of the value, of a position.
  SIMT_DEVICE int64_t key_row(int sequence, int position, int head) const {
    return keys_of(page_of(sequence, position), head) + position % page_size * key_dim;
  }
  SIMT_DEVICE int64_t value_row(int sequence, int position, int head) const {
    if (latents) return key_row(sequence, position, head);
    return values_of(page_of(sequence, position), head) + position % page_size * value_dim;
  }
};

template <class Args>
KvStep kv_step(const Args& args) {
  const KvView& kv = *args.cache;
  return {
      static_cast<unsigned char*>(kv.data) + kv_keys(kv, args.layer, 0, 0) * dtype_size(kv.dtype),
      args.positions->i32(),
      args.sequence_starts->i32(),
      args.page_table->i32(),
      static_cast<int>(args.sequence_starts->shape[0]) - 1,
      static_cast<int>(args.page_table->shape[1]),
      static_cast<int>(kv.pages),
      static_cast<int>(kv.page_size),
      static_cast<int>(kv.kv_heads),
      static_cast<int>(kv.key_dim),
      static_cast<int>(kv.value_dim),
      kv.holds_latents()};
}

}  // namespace moepp::cuda
