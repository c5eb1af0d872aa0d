// A step and a KV cache that the device sees, and the same cache as the references read it: in the
// CPU's order.
#pragma once

#include "cuda/kv_layout.cuh"
#include "kernel_test.h"
#include "paged_step.h"

namespace moepp::simt_test {

struct SharedStep {
  int64_t tokens, pages, columns, sequences;
  Shared<int32_t> positions, starts, page_table;

  SharedStep(const std::vector<SequenceSpec>& specs, int64_t page_size)
      : SharedStep(PagedStep(specs, page_size)) {}
  explicit SharedStep(const PagedStep& step)
      : tokens(step.tokens),
        pages(step.pages),
        columns(step.columns),
        sequences(step.sequences()),
        positions(copy(step.positions)),
        starts(copy(step.starts)),
        page_table(copy(step.page_table)) {}
  Tensor positions_tensor() { return whole(positions, {tokens}); }
  Tensor starts_tensor() { return whole(starts, {sequences + 1}); }
  Tensor page_table_tensor() { return whole(page_table, {sequences, columns}); }

 private:
  static Shared<int32_t> copy(const std::vector<int32_t>& values) {
    Shared<int32_t> shared(values.size());
    for (size_t i = 0; i < values.size(); i++) shared[i] = values[i];
    return shared;
  }
};

class SharedCache {
 public:
  explicit SharedCache(KvView shape)
      : device(shape),
        reference(shape),
        size_(dtype_size(shape.dtype)),
        elements_(shape.layers * shape.pages * shape.page_elements()),
        device_bytes_(static_cast<size_t>(elements_ * size_), kPoison),
        reference_bytes_(static_cast<size_t>(elements_ * size_), kPoison) {
    device.data = device_bytes_.data();
    reference.data = reference_bytes_.data();
  }
  KvView device, reference;

  // Dimension i of the key or the value of one token of one head, in both.
  void set(int64_t layer, int64_t page, int64_t head, bool value, int64_t s, int64_t i, float x) {
    const uint16_t half = f32_to_bf16(x);
    const void* bytes = size_ == 4 ? static_cast<const void*>(&x) : &half;
    std::memcpy(device_bytes_.data() + device_index(layer, page, head, value, s, i) * size_, bytes,
                static_cast<size_t>(size_));
    std::memcpy(reference_bytes_.data() + reference_index(layer, page, head, value, s, i) * size_,
                bytes, static_cast<size_t>(size_));
  }
  // Elements that are not poison.
  int64_t written() const {
    int64_t count = 0;
    for (int64_t i = 0; i < elements_; i++) {
      bool poison = true;
      for (int64_t b = 0; b < size_; b++)
        poison &= device_bytes_[static_cast<size_t>(i * size_ + b)] == kPoison;
      count += poison ? 0 : 1;
    }
    return count;
  }
  void copy_to_reference() {
    const KvView& kv = device;
    for (int64_t i = 0; i < kv.layers * kv.pages * kv.kv_heads * kv.page_size; i++) {
      const int64_t s = i % kv.page_size, head = i / kv.page_size % kv.kv_heads,
                    page = i / kv.page_size / kv.kv_heads % kv.pages,
                    layer = i / kv.page_size / kv.kv_heads / kv.pages;
      for (const bool value : {false, true}) {
        for (int64_t d = 0; d < (value ? kv.value_dim : kv.key_dim); d++) {
          std::memcpy(
              reference_bytes_.data() + reference_index(layer, page, head, value, s, d) * size_,
              device_bytes_.data() + device_index(layer, page, head, value, s, d) * size_,
              static_cast<size_t>(size_));
        }
      }
    }
  }

 private:
  static constexpr unsigned char kPoison = 0xff;
  int64_t device_index(int64_t layer, int64_t page, int64_t head, bool value, int64_t s,
                       int64_t i) const {
    return (value ? cuda::kv_values(device, layer, page, head)
                  : cuda::kv_keys(device, layer, page, head)) +
           s * (value ? device.value_dim : device.key_dim) + i;
  }
  int64_t reference_index(int64_t layer, int64_t page, int64_t head, bool value, int64_t s,
                          int64_t i) const {
    return value ? cpu::kv_values(reference, layer, page, head) + cpu::kv_value(reference, s, i)
                 : cpu::kv_keys(reference, layer, page, head) + cpu::kv_key(reference, s, i);
  }
  int64_t size_, elements_;
  Shared<unsigned char> device_bytes_;
  std::vector<unsigned char> reference_bytes_;
};

}  // namespace moepp::simt_test
