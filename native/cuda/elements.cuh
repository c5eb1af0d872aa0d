// Neighbouring elements of f32 or bf16 as f32: one, or four with one access (16 or 8 bytes, aligned
// to that).
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

template <int N>
SIMT_DEVICE void load_elements(const float* p, float (&v)[N]) {
  static_assert(N == 1 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
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
  static_assert(N == 1 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
    *p = v[0];
  }
}
template <int N>
SIMT_DEVICE void store_elements(simt::bf16* p, const float (&v)[N]) {
  static_assert(N == 1 || N == 4, "one element or one access");
  if constexpr (N == 4) {
    *reinterpret_cast<uint2*>(p) =
        make_uint2(simt::pack_bf16(v[0], v[1]), simt::pack_bf16(v[2], v[3]));
  } else {
    *p = simt::to_bf16(v[0]);
  }
}

}  // namespace moepp::cuda
