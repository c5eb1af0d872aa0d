// The order of elements in the KV cache on a GPU, and where a token finds its rows. Per layer and
// page, the heads one after another; a head has its keys [S][D], then its values [S][D]. A row is
// aligned to 16 bytes where D elements are a multiple of 16 bytes. The whole takes the same bytes
// as on the CPU, and a page of one layer is one piece: Device::copy_page copies it as it is.
#pragma once

#include "cuda/simt/simt.h"
#include "ops.h"

namespace moepp::cuda {

// Elements of one page of one layer.
SIMT_HOST_DEVICE int64_t kv_page_elements(const KvView& kv) {
  return kv.kv_heads * 2 * kv.page_size * kv.head_dim;
}

// First element of the keys [S][D] of one head in one page.
SIMT_HOST_DEVICE int64_t kv_keys(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return (layer * kv.pages + page) * kv_page_elements(kv) + head * 2 * kv.page_size * kv.head_dim;
}

// First element of the values [S][D] of one head in one page.
SIMT_HOST_DEVICE int64_t kv_values(const KvView& kv, int64_t layer, int64_t page, int64_t head) {
  return kv_keys(kv, layer, page, head) + kv.page_size * kv.head_dim;
}

// One layer of the cache and the sequences of a step, as kernels take them.
struct KvStep {
  void* layer;                     // its first element
  const int32_t* positions;        // [T]
  const int32_t* sequence_starts;  // [B+1]
  const int32_t* page_table;       // [B, M]
  int sequences, columns, page_size, kv_heads, head_dim;

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
  // The element of the layer where the key of a position begins; its value begins value_offset()
  // later.
  SIMT_DEVICE int64_t key_row(int sequence, int position, int head) const {
    const int page = page_table[static_cast<int64_t>(sequence) * columns + position / page_size];
    return ((static_cast<int64_t>(page) * kv_heads + head) * 2 * page_size + position % page_size) *
           head_dim;
  }
  SIMT_DEVICE int64_t value_offset() const { return static_cast<int64_t>(page_size) * head_dim; }
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
      static_cast<int>(kv.page_size),
      static_cast<int>(kv.kv_heads),
      static_cast<int>(kv.head_dim)};
}

}  // namespace moepp::cuda
