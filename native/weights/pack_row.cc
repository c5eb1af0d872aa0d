#include "pack_row.h"

#include <algorithm>

#include "float8.h"

namespace moepp {

static float read_f32(const std::byte* from) {
  float value;
  std::memcpy(&value, from, 4);
  return value;
}
static uint16_t read_u16(const std::byte* from) {
  uint16_t value;
  std::memcpy(&value, from, 2);
  return value;
}

template <class Read>
static void convert_at(const std::byte* from, int64_t step, int64_t n, DType dtype, std::byte* to,
                       const Read& read) {
  if (dtype == DType::kF32) {
    for (int64_t i = 0; i < n; i++) {
      const float value = read(from + i * step);
      std::memcpy(to + 4 * i, &value, 4);
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      const uint16_t value = f32_to_bf16(read(from + i * step));
      std::memcpy(to + 2 * i, &value, 2);
    }
  }
}

template <int64_t kSize, class Read>
static void convert(const PackRow& row, int64_t k, int64_t n, DType dtype, std::byte* to,
                    const Read& read) {
  const std::byte* from = row.data + k * row.stride * kSize;
  if (row.stride == 1) {
    // inlined with a constant step, which compilers make vectors of
    convert_at(from, kSize, n, dtype, to, read);
  } else {
    convert_at(from, row.stride * kSize, n, dtype, to, read);
  }
}

// One block of 128 k after the other.
static bool convert_f8(const PackRow& row, int64_t k, int64_t n, DType dtype, std::byte* to) {
  bool has_nan = false;
  for (const int64_t last = k + n; k < last;) {
    const int64_t block = (k + row.phase) / kScaleBlock;
    const int64_t end = std::min(last, (block + 1) * kScaleBlock - row.phase);
    const float scale = row.scales[block * row.scale_step];
    convert<1>(row, k, end - k, dtype, to, [&](const std::byte* from) {
      const auto code = static_cast<uint8_t>(*from);
      has_nan |= is_e4m3_nan(code);
      return e4m3_to_f32(code) * scale;
    });
    to += (end - k) * dtype_size(dtype);
    k = end;
  }
  return !has_nan;
}

bool convert_row(const PackRow& row, int64_t k, int64_t n, DType dtype, std::byte* to) {
  const int64_t size = dtype_size(dtype);
  if (row.data == nullptr) {
    std::memset(to, 0, static_cast<size_t>(n * size));
  } else if (row.dtype == dtype) {
    const std::byte* from = row.data + k * row.stride * size;
    if (row.stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(n * size));
    } else {
      for (int64_t i = 0; i < n; i++)
        std::memcpy(to + i * size, from + i * row.stride * size, static_cast<size_t>(size));
    }
  } else if (row.dtype == DType::kF32) {
    convert<4>(row, k, n, dtype, to, read_f32);
  } else if (row.dtype == DType::kBf16) {
    convert<2>(row, k, n, dtype, to,
               [](const std::byte* from) { return bf16_to_f32(read_u16(from)); });
  } else if (row.dtype == DType::kF16) {
    convert<2>(row, k, n, dtype, to,
               [](const std::byte* from) { return f16_to_f32(read_u16(from)); });
  } else {
    return convert_f8(row, k, n, dtype, to);
  }
  return true;
}

}  // namespace moepp
