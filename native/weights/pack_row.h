// A row of a stored weight, and its elements in the type that a device holds.
#pragma once

#include <cstddef>

#include "tensor.h"

namespace moepp {

// Element k is at data + k * stride * dtype_size(dtype). Without data, a row of zeros.
struct PackRow {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;  // f32, bf16, f16 or f8
  int64_t stride = 1;         // in elements
  // of f8 (float8.h): element k has scales[(k + phase) / 128 * scale_step]
  const float* scales = nullptr;
  int64_t scale_step = 1, phase = 0;
};

// Elements [k, k + n) of a row, one behind the other, as f32 or bf16, or as they are. A row that
// has dtype already is copied, NaN payloads and all. False, and *to unspecified, if an f8 element
// that is converted is NaN.
bool convert_row(const PackRow& row, int64_t k, int64_t n, DType dtype, std::byte* to);

}  // namespace moepp
