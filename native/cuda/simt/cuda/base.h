// Types, conversions, dynamic shared memory, and what the architecture being compiled has.
#pragma once

#include <cuda.h>  // CUtensorMap: the type alone, nothing of libcuda is linked
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// In the host's pass everything counts as there. Guard the body of a kernel that means nothing
// without the feature; a wrapper used where its instruction does not exist compiles to a trap.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define SIMT_HAS_SM80 1
#else
#define SIMT_HAS_SM80 0
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SIMT_HAS_SM90 1
#else
#define SIMT_HAS_SM90 0
#endif
// wgmma and setmaxnreg exist for sm_90a alone; nvcc defines this macro there and nowhere else.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SIMT_HAS_SM90A 1
#else
#define SIMT_HAS_SM90A 0
#endif

#define SIMT_DEVICE __device__ __forceinline__
#define SIMT_HOST_DEVICE __host__ __device__ __forceinline__

namespace simt {

using Stream = cudaStream_t;
using Error = cudaError_t;
using TensorMap = CUtensorMap;
using bf16 = __nv_bfloat16;
using f16 = __half;
constexpr Error kSuccess = cudaSuccess, kOutOfResources = cudaErrorLaunchOutOfResources;

SIMT_DEVICE void unsupported() {
  __trap();
}

SIMT_HOST_DEVICE float to_float(bf16 x) {
  return __bfloat162float(x);
}
SIMT_HOST_DEVICE float to_float(f16 x) {
  return __half2float(x);
}
SIMT_HOST_DEVICE bf16 to_bf16(float x) {
  return __float2bfloat16_rn(x);
}
SIMT_HOST_DEVICE f16 to_f16(float x) {
  return __float2half_rn(x);
}
SIMT_HOST_DEVICE uint16_t bits_of(bf16 x) {
  return __bfloat16_as_ushort(x);
}
SIMT_HOST_DEVICE uint16_t bits_of(f16 x) {
  return __half_as_ushort(x);
}

// Two values in one register, the lower half first: the order of fragments and of memory.
SIMT_DEVICE uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
SIMT_DEVICE float2 unpack_bf16(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}
// a b + c of either half, rounded once. PTX: fma.rn.bf16x2 (sm_80).
SIMT_DEVICE uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
#if SIMT_HAS_SM80
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
#else
  unsupported();
  return a;
#endif
}
SIMT_DEVICE uint32_t pack_f16(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
SIMT_DEVICE float2 unpack_f16(uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

// x rounded to tf32 (10 bits of fraction), ties away from zero. PTX: cvt. Before sm_80 there is no
// tf32: x itself.
SIMT_DEVICE uint32_t to_tf32(float x) {
#if SIMT_HAS_SM80
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
#else
  return __float_as_uint(x);
#endif
}

// The block's dynamic shared memory, all of it, aligned to 1024 bytes as TMA and wgmma need: one
// struct per kernel.
template <class T>
SIMT_DEVICE T* smem() {
  extern __shared__ __align__(1024) unsigned char simt_dynamic_smem[];
  return reinterpret_cast<T*>(simt_dynamic_smem);
}
// The address in the shared state space, as instructions and descriptors take it.
SIMT_DEVICE uint32_t smem_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

}  // namespace simt
