// Packing of weights into panels (panels.h), one panel at a time; cpu_device.cc calls it from several threads.
#pragma once

#include <cstddef>

#include "panels.h"

namespace moepp::cpu {

// One row of a stored weight: element k is at data + k * stride * dtype_size(dtype). Without data, a row of zeros.
struct PackRow {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;  // f32, bf16 or f16
  int64_t stride = 1;         // in elements
};

// Writes the panel of panel_bytes(dtype, k) bytes at `target` from its rows, in the order of panel_row(); dtype is f32 or
// bf16 (rounded to nearest, ties to even).
void pack_panel(std::byte* target, DType dtype, const PackRow (&rows)[kPanelRows], int64_t k);

}  // namespace moepp::cpu
