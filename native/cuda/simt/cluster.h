// Clusters: neighbouring blocks that begin together, reach each other's shared memory, and get
// tiles by one load (sm_90). Launch::cluster has their number. PTX: cluster, mapa, multicast.
#pragma once

#include "cuda/simt/tma.h"

namespace simt {

// The block's number in its cluster.
SIMT_DEVICE unsigned cluster_rank() {
#if SIMT_HAS_SM90
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  unsupported();
  return 0;
#endif
}

// A barrier of all threads of the cluster that have not ended; it orders memory. By whole warps.
// Before the first access of another block's shared memory, and before a block ends that others may
// still reach.
SIMT_DEVICE void cluster_sync() {
#if SIMT_HAS_SM90
  __syncwarp();  // .aligned: all lanes at once
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#else
  unsupported();
#endif
}

// mbar_arrive on the barrier that block `rank` has in the place of b.
SIMT_DEVICE void mbar_arrive_in(Mbarrier* b, unsigned rank) {
#if SIMT_HAS_SM90
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(smem_address(b)),
      "r"(rank)
      : "memory");
#else
  unsupported();
#endif
}

// tma_load to the place of dst in every block of the mask. Its bytes count on each block's barrier
// in the place of b. sm_90a alone: for other targets ptxas warns that it is slow.
SIMT_DEVICE void tma_load_multicast(void* dst, const TensorMap* map, int x, int y, Mbarrier* b,
                                    uint16_t mask) {
#if SIMT_HAS_SM90A
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(smem_address(dst)),
      "l"(map), "r"(x), "r"(y), "r"(smem_address(b)), "h"(mask)
      : "memory");
#else
  unsupported();
#endif
}

}  // namespace simt
