// Bulk copies by the tensor memory accelerator (sm_90), each started by one thread. PTX:
// cp.async.bulk, cp.async.bulk.tensor.
#pragma once

#include "cuda/simt/mbarrier.h"
#include "cuda/simt/tile_map.h"

namespace simt {

// Host: encodes a TileMap for a kernel's parameter `const __grid_constant__ simt::TensorMap`. The
// driver's function is looked up at run time, so that nothing links libcuda.
inline Error make_tensor_map(TensorMap* map, const TileMap& tile) {
  using Encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                   const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                   CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult result;
    const Error error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                         cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess
               ? reinterpret_cast<Encode>(entry)
               : nullptr;
  }();
  if (encode == nullptr) return cudaErrorNotSupported;
  constexpr CUtensorMapDataType types[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                           CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                           CU_TENSOR_MAP_DATA_TYPE_FLOAT32};
  constexpr CUtensorMapSwizzle swizzles[] = {CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_SWIZZLE_32B,
                                             CU_TENSOR_MAP_SWIZZLE_64B, CU_TENSOR_MAP_SWIZZLE_128B};
  const cuuint64_t sizes[] = {tile.columns, tile.rows}, pitch[] = {tile.pitch_bytes};
  const cuuint32_t box[] = {tile.box_columns, tile.box_rows}, steps[] = {1, 1};
  const CUresult result = encode(
      map, types[static_cast<int>(tile.element)], 2, const_cast<void*>(tile.data), sizes, pitch,
      box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzles[static_cast<int>(tile.swizzle)],
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

SIMT_DEVICE void tma_prefetch_map(const TensorMap* map) {
#if SIMT_HAS_SM90
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#else
  unsupported();
#endif
}

// Copies the box whose first element is row y, column x, to dst. dst is aligned to 128 bytes; to
// 1024 for the swizzle to begin there. All bytes of the box count on the barrier.
SIMT_DEVICE void tma_load(void* dst, const TensorMap* map, int x, int y, Mbarrier* b) {
#if SIMT_HAS_SM90
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, "
      "{%2, %3}], [%4];" ::"r"(smem_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(smem_address(b))
      : "memory");
#else
  unsupported();
#endif
}
SIMT_DEVICE void tma_load(void* dst, const TensorMap* map, int x, int y, Mbarrier* b,
                          uint64_t l2_policy) {
#if SIMT_HAS_SM90
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_"
      "hint [%0], [%1, {%2, %3}], "
      "[%4], "
      "%5;" ::"r"(smem_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(smem_address(b)), "l"(l2_policy)
      : "memory");
#else
  unsupported();
#endif
}

// Copies the box at src to row y, column x. The writer of src must fence_proxy_async before; src
// may be overwritten after the wait.
SIMT_DEVICE void tma_store(const TensorMap* map, int x, int y, const void* src) {
#if SIMT_HAS_SM90
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
      "r"(x), "r"(y), "r"(smem_address(src))
      : "memory");
#else
  unsupported();
#endif
}
SIMT_DEVICE void tma_store_commit() {
#if SIMT_HAS_SM90
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#else
  unsupported();
#endif
}
// Until shared memory has been read by all but the Newest last committed groups of the calling
// thread. A thread must wait for all its stores before the block ends.
template <int Newest>
SIMT_DEVICE void tma_store_wait() {
#if SIMT_HAS_SM90
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Newest) : "memory");
#else
  unsupported();
#endif
}

// Contiguous bytes from global to shared memory; addresses and size are multiples of 16.
SIMT_DEVICE void bulk_load(void* dst, const void* src, uint32_t bytes, Mbarrier* b) {
#if SIMT_HAS_SM90
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(smem_address(dst)),
      "l"(src), "r"(bytes), "r"(smem_address(b))
      : "memory");
#else
  unsupported();
#endif
}

// Contiguous bytes from shared to global memory, else as tma_store: fence, commit and wait too.
SIMT_DEVICE void bulk_store(void* dst, const void* src, uint32_t bytes) {
#if SIMT_HAS_SM90
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst),
               "r"(smem_address(src)), "r"(bytes)
               : "memory");
#else
  unsupported();
#endif
}

}  // namespace simt
