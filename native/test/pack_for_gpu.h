// Puts weights that the references see as the CPU's panels into a GPU's order
// (cuda/weight_layout.h).
#pragma once

#include <algorithm>
#include <cmath>

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

// The codes of values that e4m3 holds exactly, times a scale.
inline Float8Block float8_block(const float* values) {
  Float8Block block = {};
  float most = 0.0f;
  for (int64_t i = 0; i < kScaleBlock; i++) most = std::fmax(most, std::fabs(values[i]));
  block.scale = most / 448.0f;
  for (int64_t i = 0; i < kScaleBlock && most > 0.0f; i++) {
    const float number = std::fabs(values[i]) / block.scale * 0x1p-120f;  // its code, from bit 20
    uint32_t bits;
    std::memcpy(&bits, &number, 4);
    block.code[i] = static_cast<uint8_t>(bits >> 20 | (std::signbit(values[i]) ? 0x80u : 0u));
  }
  return block;
}

inline void pack_float8_for_gpu(const Tensor& panels, int64_t group, void* to) {
  const int64_t rows = panels.shape[panels.rank - 2], inputs = panels.shape[panels.rank - 1];
  cuda::pack_quantised_weight<Float8Block>(
      panels.layout, rows, inputs, to, [&](int64_t row, int64_t b, Float8Block* block) {
        float values[kScaleBlock] = {};
        for (int64_t k = b * kScaleBlock; k < std::min(inputs, (b + 1) * kScaleBlock); k++)
          values[k % kScaleBlock] = static_cast<float>(panel_element(panels, group, row, k));
        *block = float8_block(values);
        return true;
      });
}

// One group of a weight.
inline void pack_for_gpu(const Tensor& panels, int64_t group, void* to) {
  if (panels.dtype == DType::kI8) return pack_blocks_for_gpu<Int8Block>(panels, group, to);
  if (panels.dtype == DType::kI4) return pack_blocks_for_gpu<Int4Block>(panels, group, to);
  if (panels.dtype == DType::kF8) return pack_float8_for_gpu(panels, group, to);
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
