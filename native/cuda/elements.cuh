// Neighbouring elements of f32 or bf16 as f32, with one access, aligned to its size: one or four,
// and two but of reads of bf16.
#pragma once

#include "cuda/simt/simt.h"
#include "tensor.h"

namespace moepp::cuda {

template <int N>
SIMT_DEVICE void load_elements(const float* p, float (&v)[N]) {
  static_assert(N == 1 || N == 2 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
  } else if constexpr (N == 2) {
    const float2 two = *reinterpret_cast<const float2*>(p);
    v[0] = two.x, v[1] = two.y;
  } else {
    v[0] = *p;
  }
}
template <int N>
SIMT_DEVICE void load_elements(const simt::bf16* p, float (&v)[N]) {
  static_assert(N == 1 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    const uint2 four = *reinterpret_cast<const uint2*>(p);
    const float2 low = simt::unpack_bf16(four.x), high = simt::unpack_bf16(four.y);
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
  } else {
    v[0] = simt::to_float(*p);
  }
}

template <int N>
SIMT_DEVICE void store_elements(float* p, const float (&v)[N]) {
  static_assert(N == 1 || N == 2 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
  } else if constexpr (N == 2) {
    *reinterpret_cast<float2*>(p) = make_float2(v[0], v[1]);
  } else {
    *p = v[0];
  }
}
template <int N>
SIMT_DEVICE void store_elements(simt::bf16* p, const float (&v)[N]) {
  static_assert(N == 1 || N == 2 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    *reinterpret_cast<uint2*>(p) =
        make_uint2(simt::pack_bf16(v[0], v[1]), simt::pack_bf16(v[2], v[3]));
  } else if constexpr (N == 2) {
    *reinterpret_cast<uint32_t*>(p) = simt::pack_bf16(v[0], v[1]);
  } else {
    *p = simt::to_bf16(v[0]);
  }
}

// An output that products may take as bf16 (kF32OrBf16 in ops.h). It is rounded here as they would
// round it.
struct Output {
  void* data;
  bool bf16;  // else f32

  template <int N>
  SIMT_DEVICE void store(int64_t at, const float (&v)[N]) const {
    if (bf16) {
      store_elements(static_cast<simt::bf16*>(data) + at, v);
    } else {
      store_elements(static_cast<float*>(data) + at, v);
    }
  }
};
inline Output output_of(const Tensor& tensor) {
  return {tensor.data, tensor.dtype == DType::kBf16};
}

}  // namespace moepp::cuda
