// Stored e4m3 weights for tests.
#pragma once

#include <cmath>
#include <fstream>

#include "small_model.h"
#include "weights/float8.h"
#include "weights/stacked_rows.h"

namespace moepp::test {

// The number by its definition, in f64.
inline double number_of(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

// A file with codes and, behind them, scales.
class Float8File {
 public:
  explicit Float8File(Shape shape, DType scale_dtype = DType::kF32) : file_(0) {
    ref.name = "weight";
    ref.dtype = DType::kF8;
    ref.shape = shape;
    TensorRef scale;
    scale.name = "scale";
    scale.dtype = scale_dtype;
    scale.shape = shape;
    const size_t rank = shape.size();
    for (size_t i = rank - 2; i < rank; i++) scale.shape[i] = scale_blocks(shape[i]);
    ref.scale = {scale};
    for (TensorRef* tensor : {&ref, &ref.scale[0]}) {
      tensor->file = file_.path();
      tensor->strides.assign(rank, 1);
      for (size_t i = rank - 1; i-- > 0;)
        tensor->strides[i] = tensor->strides[i + 1] * tensor->shape[i + 1];
      const auto bytes = static_cast<uint64_t>(elements_of(tensor->shape));
      tensor->byte_length = bytes * static_cast<uint64_t>(dtype_size(tensor->dtype));
    }
    codes.resize(ref.byte_length);
    scales.resize(static_cast<size_t>(elements_of(ref.scale[0].shape)));
    for (size_t i = 0; i < codes.size(); i++) {
      codes[i] = static_cast<uint8_t>(i * 7 + i / 251);
      if (is_e4m3_nan(codes[i])) codes[i] = 0;
    }
    for (size_t i = 0; i < scales.size(); i++)
      scales[i] = bf16_to_f32(f32_to_bf16(0.01f * static_cast<float>(i + 1)));
  }

  void write() {
    std::ofstream out(file_.path(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(codes.data()),
              static_cast<std::streamsize>(codes.size()));
    ref.scale[0].byte_offset = codes.size();
    for (const float scale : scales) {
      const uint16_t half = f32_to_bf16(scale);
      const bool wide = ref.scale[0].dtype == DType::kF32;
      out.write(wide ? reinterpret_cast<const char*>(&scale) : reinterpret_cast<const char*>(&half),
                wide ? 4 : 2);
    }
  }

  // Element [g, n, k] of [G, N, K].
  float value(int64_t g, int64_t n, int64_t k) const {
    const size_t rank = ref.shape.size();
    const int64_t rows = ref.shape[rank - 2], inputs = ref.shape[rank - 1];
    const int64_t block = (g * scale_blocks(rows) + n / 128) * scale_blocks(inputs) + k / 128;
    const uint8_t code = codes[static_cast<size_t>((g * rows + n) * inputs + k)];
    return static_cast<float>(number_of(code)) * scales[static_cast<size_t>(block)];
  }

  WeightSpec spec(DType dtype) const { return {"held", dtype, ref.shape, {ref}}; }

  TensorRef ref;
  std::vector<uint8_t> codes;
  std::vector<float> scales;

 private:
  TemporaryFile file_;
};

}  // namespace moepp::test
