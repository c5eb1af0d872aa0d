// A typed view of memory on one device. It owns nothing.
#pragma once

#include <cstdint>
#include <cstring>

namespace moepp {

// kI8 and kI4 are matrices only: integers with a scale for each group of k (weights/quantise.h).
// Their elements have no size of their own. kF8 is e4m3, of stored weights (weights/float8.h).
enum class DType : uint8_t { kF32, kBf16, kF16, kI32, kI8, kI4, kF8 };

// The order of a weight's elements in memory. Every other tensor is kRows.
//
//   kRows    row-major
//   kMatrix  [..., N, K], as the device's GEMMs read it
//   kGateUp  the same, where N = 2F holds F gate rows, then F up rows. The gate row and the up row
//            of an output column stand near each other, so that SwiGLU needs no second pass.
// The bytes of the last two are the device's affair (weights/panels.h, cuda/weight_layout.h).
enum class Layout : uint8_t { kRows, kMatrix, kGateUp };

constexpr int kMaxRank = 4;

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Layout layout = Layout::kRows;
  int rank = 0;
  int64_t shape[kMaxRank] = {0, 0, 0, 0};

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return as<float>(); }
  int32_t* i32() const { return as<int32_t>(); }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
};

static inline bool is_quantised(DType dtype) {
  return dtype == DType::kI8 || dtype == DType::kI4;
}
// Of matrices that have a scale for each row and 128 k. Only a GPU holds kF8 ones.
static inline bool is_blocked(DType dtype) {
  return is_quantised(dtype) || dtype == DType::kF8;
}

// Bytes of one element; not of a quantised weight.
static inline int64_t dtype_size(DType dtype) {
  return dtype == DType::kF8 ? 1 : dtype == DType::kBf16 || dtype == DType::kF16 ? 2 : 4;
}

static inline const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI32:
      return "i32";
    case DType::kI8:
      return "int8";
    case DType::kI4:
      return "int4";
    case DType::kF8:
      return "float8";
  }
  return "?";
}

// bf16 is the upper half of an f32.
static inline float bf16_to_f32(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// Rounds to nearest, ties to even; a NaN stays a NaN.
static inline uint16_t f32_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// IEEE half precision, subnormals included.
static inline float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  uint32_t bits;
  if (exponent == 0x1fu) {
    bits = sign | 0x7f800000u | (mantissa << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112u) << 23) | (mantissa << 13);
  } else {
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-08f;  // 2^-24
    std::memcpy(&bits, &magnitude, 4);
    bits |= sign;
  }
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace moepp
