// Puts weights that the references see as the CPU's panels into a GPU's order
// (cuda/weight_layout.h).
#pragma once

#include "cuda/weight_layout.h"
#include "weights/packed_blocks.h"
#include "reference_gemm.h"

namespace moepp::test {

template <class Block>
void pack_blocks_for_gpu(const Tensor& panels, int64_t group, void* to) {
  const int64_t rows = panels.shape[panels.rank - 2], inputs = panels.shape[panels.rank - 1];
  const unsigned char* from = panels.as<const unsigned char>() +
                              group * packed_group_bytes(panels.dtype, panels.layout, rows, inputs);
  cuda::pack_quantised_weight<Block>(
      panels.layout, rows, inputs, to, [&](int64_t row, int64_t b, Block* block) {
        read_packed_block(from, panels.dtype, panels.layout, rows, inputs, row, b, block);
        return true;
      });
}

// One group of a weight.
inline void pack_for_gpu(const Tensor& panels, int64_t group, void* to) {
  if (panels.dtype == DType::kI8) return pack_blocks_for_gpu<Int8Block>(panels, group, to);
  if (panels.dtype == DType::kI4) return pack_blocks_for_gpu<Int4Block>(panels, group, to);
  const int64_t rows = panels.shape[panels.rank - 2], inputs = panels.shape[panels.rank - 1];
  cuda::pack_weight(panels.dtype, panels.layout, rows, inputs, to, [&](int64_t row, void* at) {
    for (int64_t k = 0; k < inputs; k++) {
      const auto value = static_cast<float>(panel_element(panels, group, row, k));
      if (panels.dtype == DType::kF32) {
        static_cast<float*>(at)[k] = value;
      } else {
        static_cast<uint16_t*>(at)[k] = f32_to_bf16(value);
      }
    }
  });
}

}  // namespace moepp::test
