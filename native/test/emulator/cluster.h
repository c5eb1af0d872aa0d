#pragma once

#include "test/emulator/tma.h"

namespace simt {

inline unsigned cluster_rank(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  return emu::rank_in_cluster();
}
inline void cluster_sync(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::cluster_barrier(at);
}
inline void mbar_arrive_in(Mbarrier* b, unsigned rank, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::mbarrier_arrive_in(b, rank, at);
}
inline void tma_load_multicast(void* dst, const TensorMap* map, int x, int y, Mbarrier* b,
                               uint16_t mask, SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  const emu::Bulk box =
      emu::tile_bulk(emu::run_bulk<false>, dst, map, x, y, "tma_load_multicast", at);
  emu::counts().tma_bytes += int64_t{1} * box.box_columns * box.box_rows * box.element_bytes;
  emu::bulk_load_start(box, b, at, mask);
}

}  // namespace simt
