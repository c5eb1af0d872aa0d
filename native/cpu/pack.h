// Packing of weights into panels (panels.h), one panel at a time; cpu_device.cc calls it from
// several threads.
#pragma once

#include <cstddef>

#include "weights/stacked_rows.h"
#include "weights/panels.h"

namespace moepp::cpu {

// Writes the panel of panel_bytes(dtype, k) bytes at `target` from its rows, in the order of
// panel_row(). dtype is f32; bf16, rounded to nearest, ties to even; int8 or int4, quantised
// (quantise.h). Returns -1, or the first lane that holds a NaN or an infinity where dtype has none
// (int8, int4), or a NaN of float8. The panel is then unspecified.
int64_t pack_panel(std::byte* target, DType dtype, const PackRow (&rows)[kPanelRows], int64_t k);

}  // namespace moepp::cpu
