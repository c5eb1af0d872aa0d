// Types, conversions, dynamic shared memory, and what the architecture being compiled has.
#pragma once

#include <cuda.h>  // CUtensorMap: the type alone, nothing of libcuda is linked
#include <cuda_bf16.h>
#include <cuda_runtime.h>

// In the host's pass everything counts as there. A wrapper that is used where its instruction does
// not exist compiles to a trap, and so does the body of a kernel behind SIMT_REQUIRES.
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

// The body of a kernel that means nothing without a feature: SIMT_REQUIRES(SIMT_HAS_SM90A) { ... }
// Compiled for less, the kernel traps. Nothing is compiled of its body then.
#define SIMT_REQUIRES(feature) \
  if constexpr (!(feature))    \
    ::simt::unsupported();     \
  else

#define SIMT_DEVICE __device__ __forceinline__
#define SIMT_HOST_DEVICE __host__ __device__ __forceinline__

namespace simt {

using Stream = cudaStream_t;
using Error = cudaError_t;
using TensorMap = CUtensorMap;
using bf16 = __nv_bfloat16;
constexpr Error kSuccess = cudaSuccess, kOutOfResources = cudaErrorLaunchOutOfResources;

SIMT_DEVICE void unsupported() {
  __trap();
}

// The architecture that the running code was compiled for, as 10 * major + minor; and if it has
// what sm_90a has. CUDA takes the newest code in the file that the device can run.
SIMT_DEVICE int compiled_capability() {
#if defined(__CUDA_ARCH__)
  return __CUDA_ARCH__ / 10;
#else
  return 0;
#endif
}
SIMT_DEVICE bool compiled_for_sm90a() {
  return SIMT_HAS_SM90A != 0;
}

SIMT_HOST_DEVICE float to_float(bf16 x) {
  return __bfloat162float(x);
}
SIMT_HOST_DEVICE bf16 to_bf16(float x) {
  return __float2bfloat16_rn(x);
}
SIMT_HOST_DEVICE uint16_t bits_of(bf16 x) {
  return __bfloat16_as_ushort(x);
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

// 2^x to 22 bits; 0 below 2^-126. PTX: ex2.approx.ftz.
SIMT_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
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
