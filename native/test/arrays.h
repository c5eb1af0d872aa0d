// The data of ops: arrays of f32 and i32, weights and KV caches, in the order of the arena's
// device.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>

#include "arena.h"
#include "paged_step.h"
#include "reference.h"
#include "reference_gemm.h"

namespace moepp::test {

template <class T>
class Array {
 public:
  // As the arena's memory starts.
  Array(Arena& arena, std::initializer_list<int64_t> shape)
      : tensor(test::tensor(nullptr, std::is_same<T, float>::value ? DType::kF32 : DType::kI32,
                            shape)),
        block_(arena, 4 * tensor.elements()) {
    tensor.data = block_.device();
  }
  // The values of a fixed sequence.
  Array(Arena& arena, std::initializer_list<int64_t> shape, uint32_t seed, float scale = 1.0f)
      : Array(arena, shape) {
    fill(host(), tensor.elements(), seed, scale);
    upload();
  }

  Tensor tensor;
  T* host() const { return reinterpret_cast<T*>(block_.host()); }
  T* device() const { return reinterpret_cast<T*>(block_.device()); }
  T& operator[](int64_t i) { return host()[i]; }  // of the host; then comes upload()
  void upload() { block_.upload(); }
  Tensor rows(int64_t row, int64_t count) const { return rows_of(tensor, row, count); }

 private:
  Block block_;
};
using Floats = Array<float>;
using Ints = Array<int32_t>;

// Makes the host's values such as bf16 holds: tensor cores take activations as bf16, and the
// references as they are.
void round_to_bf16(Floats& x);

// The x of a product, rounded so. The references see f32.
class Activations {
 public:
  Activations(Arena& arena, std::initializer_list<int64_t> shape, uint32_t seed);
  // Gives the device bf16 ones, as a program does, if its kernel for such a product reads them.
  template <class Args>
  void hold_as_read(const Args& product) {
    if (arena_.device().reads_bf16(product)) make_bf16();
  }
  // ", bf16 x", or nothing
  std::string note() const { return tensor.dtype == DType::kBf16 ? ", bf16 x" : ""; }
  double bytes_per_element() const { return static_cast<double>(dtype_size(tensor.dtype)); }

  Tensor tensor;

 private:
  void make_bf16();

  Arena& arena_;
  std::unique_ptr<Floats> f32_;
  std::unique_ptr<Block> bf16_;
};

// `copies` times the same weight [N, O, I], or [O, I] of one group, one behind the other. So each
// call can find its own in memory. The references see the first, in the CPU's order.
class Weight {
 public:
  Weight(Arena& arena, DType dtype, Layout layout, std::initializer_list<int64_t> shape,
         uint32_t seed, int64_t copies = 1, float scale = 0.05f);

  Tensor tensor;  // the first copy
  int64_t bytes() const { return bytes_; }
  void* copy(int64_t i) const { return block_->device() + i % copies_ * bytes_; }
  // The first copy as the references see it; then comes upload().
  std::byte* panels() const { return block_->host(); }
  void upload();

  // Bytes of one such weight on the run's device.
  static int64_t bytes_of(Arena& arena, DType dtype, Layout layout,
                          std::initializer_list<int64_t> shape);

 private:
  bool same_order_;  // of the device and of the references
  int64_t bytes_, copies_;
  std::unique_ptr<Block> block_;
};

// The device's treatment of activations in products with int8 and int4 weights.
inline Inputs gemm_inputs(Arena& arena) {
  return arena.device().uses_mapped_weights() ? Inputs::kQuantised : Inputs::kExact;
}

// A KV cache. In a guarded arena it is poison, but for what is set. Else it is full of random keys
// and values, and a device with memory of its own has the only copy.
class Cache {
 public:
  Cache(Arena& arena, KvView shape);
  // Dimension i of the key, or i - D of the value, of row s in a page: of the host. Then comes
  // upload().
  void set(int64_t layer, int64_t page, int64_t head, int64_t s, int64_t i, float x);
  // All that the step's tokens may see.
  void set(int64_t layer, const PagedStep& step);
  void upload() { block_.upload(); }
  int64_t numbers() const;  // elements that are no NaN, on the device

  KvView view;

 private:
  void fill_with_random();

  Arena& arena_;
  Block block_;
};

// The integers of a step, on the device.
struct PagedInts {
  PagedInts(Arena& arena, const PagedStep& step);
  Ints positions, starts, page_table;

  // Arguments that were cut to the row of token t become those of a step of that token alone.
  template <class Args>
  void cut(Args& args, int64_t t) {
    row_ = page_table.rows(sequence_of(starts.host(), t), 1);
    args.sequence_starts = &one_token_.tensor, args.page_table = &row_;
  }

 private:
  Ints one_token_;
  Tensor row_;
};

// Picks of `k` different experts for each of `tokens` tokens, sorted by expert as route_top_k sorts
// them.
struct Picks {
  // [N+1]; [T, K], flat; [T, K], -1 for an expert without a GEMM
  std::vector<int32_t> offsets, order, rows;
  int64_t experts_used = 0;
};
// Each pick is an FFN expert with probability `ffn_share`, or always without others; a token's
// picks differ.
Picks draw_picks(int64_t tokens, int64_t k, int64_t ffn_experts, int64_t others, double ffn_share,
                 uint32_t seed);

void set(Ints& array, const std::vector<int32_t>& values);

}  // namespace moepp::test
