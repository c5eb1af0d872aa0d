#include "rows.inl.h"

template <class E>
void embed_row(const E* row, int64_t h, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= h; i += kLanes) store(out + i, load(row + i));
  store_n(out + i, load_n(row + i, static_cast<int>(h - i)), static_cast<int>(h - i));
}

// A row of a panel lies 128 bytes apart per step of k. One row per token is too little to matter.
inline void embed_panel_row(const Tensor& table, int64_t row, int64_t h, float* out) {
  const std::byte* panel = table.as<std::byte>() + row / kPanelRows * panel_bytes(table.dtype, h);
  for (int64_t k = 0; k < h; k++) {
    if (is_quantised(table.dtype)) {
      out[k] = quantised_element(table.dtype, reinterpret_cast<const unsigned char*>(panel),
                                 row % kPanelRows, k);
      continue;
    }
    const int64_t index = panel_index(table.dtype, row % kPanelRows, k);
    if (table.dtype == DType::kF32) {
      __builtin_memcpy(out + k, panel + index * 4, 4);
    } else {
      uint16_t bits;
      __builtin_memcpy(&bits, panel + index * 2, 2);
      out[k] = bf16_to_f32(bits);
    }
  }
}

// out = scale * (out + delta).
inline void add_and_scale(const float* delta, float scale, int64_t h, float* out) {
  const Vf factor = set1(scale);
  int64_t i = 0;
  for (; i + kLanes <= h; i += kLanes) store(out + i, factor * (load(out + i) + load(delta + i)));
  const int rest = static_cast<int>(h - i);
  store_n(out + i, factor * (load_n(out + i, rest) + load_n(delta + i, rest)), rest);
}

inline void embedding(const EmbeddingArgs& args, Queue& queue) {
  const Tensor& table = *args.table;
  const int64_t h = table.shape[1];
  for_row_blocks(queue, args.tokens->shape[0], 8 * h, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const int64_t row = args.tokens->i32()[t];
      float* out = args.out->f32() + t * h;
      if (table.layout != Layout::kRows) {
        embed_panel_row(table, row, h, out);
      } else if (table.dtype == DType::kF32) {
        embed_row(table.f32() + row * h, h, out);
      } else {
        embed_row(table.as<const uint16_t>() + row * h, h, out);
      }
      if (args.delta != nullptr) add_and_scale(args.delta->f32() + t * h, args.scale, h, out);
    }
  });
}
