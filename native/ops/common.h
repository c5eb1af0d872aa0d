// Types of several contracts. The letters and verbs of a contract are in ops.h.
#pragma once

#include <cstdint>
#include <string>

#include "tensor.h"

namespace moepp {

// The KV cache of all layers. A page has the keys and the values of each head, in sizes of their
// own. A cache of latents has no values: the first elements of a key serve as its value, as many as
// an op takes. The order of bytes within a page is the device's affair (cpu/kv_layout.h).
struct KvView {
  void* data = nullptr;
  DType dtype = DType::kF32;  // f32 | bf16
  int64_t layers = 0, pages = 0, page_size = 0, kv_heads = 0, key_dim = 0, value_dim = 0;

  bool holds_latents() const { return value_dim == 0; }
  // Elements of one page of one layer.
  int64_t page_elements() const { return kv_heads * (key_dim + value_dim) * page_size; }
};

inline std::string cache_text(const KvView& cache) {
  return "the kv cache has " + std::to_string(cache.layers) + " layers of " +
         std::to_string(cache.kv_heads) + " heads with keys of " + std::to_string(cache.key_dim) +
         " and values of " + std::to_string(cache.value_dim);
}

constexpr int64_t kMostHeadDim = 256;

constexpr int64_t kMostHeads = 256, kMostLatentDim = 1024;

inline std::string bad_latent_dim(int64_t dim) {
  if (dim >= 2 && dim % 2 == 0 && dim <= kMostLatentDim) return {};
  return "the latent's dim " + std::to_string(dim) + " must be even and at most " +
         std::to_string(kMostLatentDim);
}

inline std::string bad_head_dim(const char* what, int64_t dim) {
  if (dim >= 2 && dim % 2 == 0 && dim <= kMostHeadDim) return {};
  return std::string(what) + " " + std::to_string(dim) + " must be even and at most " +
         std::to_string(kMostHeadDim);
}

struct FieldType {
  DType dtype;
  bool or_bf16;

  constexpr FieldType(DType recorded, bool bf16 = false) : dtype(recorded), or_bf16(bf16) {}
};
constexpr FieldType kF32OrBf16(DType::kF32, true);

namespace parallel {
class Group;
}

// The ranks that run a model together: how many, which of them this is, and their messages
// (parallel/group.h). A program has one group; its ops do not name it.
struct Ranks {
  parallel::Group* group = nullptr;
  int32_t count = 0, own = 0;
};

enum class Activation : int32_t { kNone = 0, kTanh = 1, kSwiglu = 2 };

}  // namespace moepp
