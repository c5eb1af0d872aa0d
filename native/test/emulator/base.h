// CUDA's keywords, built-in types and arithmetic functions that kernels here use.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
// As many NOPs before the kernel's entry as its blocks may have warps: how a launch knows the
// bounds (limits.cc).
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define SIMT_KNOWS_BOUNDS 1
#define __launch_bounds__(...)                                                \
  __attribute__((patchable_function_entry(simt::emu::most_warps(__VA_ARGS__), \
                                          simt::emu::most_warps(__VA_ARGS__))))
#else
#define SIMT_KNOWS_BOUNDS 0
#define __launch_bounds__(...)
#endif
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// __shared__ is not defined: see README.md, "Rules".

#define SIMT_DEVICE inline
#define SIMT_HOST_DEVICE inline

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline int2 make_int2(int x, int y) {
  return {x, y};
}
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

namespace simt::emu {

// The arguments of __launch_bounds__.
constexpr int most_warps(int threads, int = 0, int = 0) {
  return (threads + 31) / 32;
}

}  // namespace simt::emu

// Of the running fiber: the scheduler sets them whenever it resumes one.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

template <class T>
inline T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
inline T max(T a, T b) {
  return a < b ? b : a;
}
inline float __uint_as_float(unsigned x) {
  float f;
  std::memcpy(&f, &x, 4);
  return f;
}
inline unsigned __float_as_uint(float x) {
  unsigned u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float __int_as_float(int x) {
  return __uint_as_float(static_cast<unsigned>(x));
}
inline int __float_as_int(float x) {
  return static_cast<int>(__float_as_uint(x));
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline float __expf(float x) {
  return expf(x);
}
inline float __logf(float x) {
  return logf(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline int __float2int_rn(float x) {
  return static_cast<int>(nearbyintf(x));
}
// Four products of signed bytes, added to c.
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}
// Byte i of the result is the byte of {a, b} that nibble i of the selector names.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++)
    result |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  return result;
}

namespace simt {

using Stream = void*;
enum Error : int {
  kSuccess = 0,
  kLaunchFailed = 1,
  kNoDriver,
  kMismatchedDriver,
  kNoCompatibility,
  kNotReady,
  kNoDevice,
  kOutOfMemory,
  kOutOfResources,
  kNoCode,
  kLost,
  kInvalidValue,
  kInvalidConfiguration,
  kInvalidHandle,
  kTooLarge,  // a cooperative launch
  kCaptureUnsupported,
  kCaptureInvalidated,
  kCaptureWrongThread,
  kCapturedEvent
};

struct bf16 {
  uint16_t bits;
};
inline uint16_t bits_of(bf16 x) {
  return x.bits;
}

inline float to_float(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}
// To nearest, ties to even. PTX: cvt.rn.bf16.f32 makes every NaN 0x7fff.
inline bf16 to_bf16(float x) {
  const uint32_t u = __float_as_uint(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}

inline uint32_t pack_bf16(float low, float high) {
  return to_bf16(low).bits | static_cast<uint32_t>(to_bf16(high).bits) << 16;
}
inline float2 unpack_bf16(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

}  // namespace simt
