#pragma once

#include "test/emulator/mbarrier.h"
#include "test/emulator/memory.h"
#include "cuda/simt/tile_map.h"

namespace simt {

struct TensorMap {
  TileMap tile = {};
};

namespace emu {

constexpr uint32_t element_bytes(Element element) {
  return element == Element::kU8 ? 1 : element == Element::kBf16 ? 2 : 4;
}
// The units' bits that are exchanged: (offset >> 7) & mask goes to the bits of the 16-byte unit.
constexpr uint32_t swizzle_mask(Swizzle swizzle) {
  return swizzle == Swizzle::k128  ? 7
         : swizzle == Swizzle::k64 ? 3
         : swizzle == Swizzle::k32 ? 1
                                   : 0;
}
inline uint32_t swizzled(uint32_t offset, uint32_t mask) {
  return offset ^ (offset >> 7 & mask) << 4;
}

// For the bytes of async_smem(). The sanitizers see the accesses of shared memory beside them.
SIMT_REGISTERS inline void copy_unseen(unsigned char* to, const unsigned char* from, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) to[i] = from[i];
}

// Instrumented, as run_cp_async is.
template <bool Store>
inline void run_bulk(const Bulk& bulk) {
  const uint32_t base = static_cast<uint32_t>(bulk.smem - smem_base()),
                 row_bytes = bulk.box_columns * bulk.element_bytes;
  for (uint32_t r = 0; r < bulk.box_rows; r++) {
    for (uint32_t c = 0; c < bulk.box_columns; c++) {
      const int64_t x = bulk.x + c, y = bulk.y + r;
      const bool inside = x >= 0 && y >= 0 && x < static_cast<int64_t>(bulk.columns) &&
                          y < static_cast<int64_t>(bulk.rows);
      const uint32_t at =
          swizzled(base + r * row_bytes + c * bulk.element_bytes, bulk.swizzle_mask);
      volatile unsigned char* s = smem_base() + at;
      unsigned char *seen = async_smem() + at, value[4] = {};
      unsigned char* g =
          bulk.global + y * static_cast<int64_t>(bulk.pitch_bytes) + x * bulk.element_bytes;
      if (Store) copy_unseen(value, seen, bulk.element_bytes);
      for (uint32_t b = 0; b < bulk.element_bytes; b++) {
        if (!Store) {
          s[b] = value[b] = inside ? g[b] : 0;
        } else if (inside) {
          (void)s[b];
          g[b] = value[b];
        }
      }
      if (!Store) copy_unseen(seen, value, bulk.element_bytes);
    }
  }
}

inline Bulk tile_bulk(void (*run)(const Bulk&), const void* smem, const TensorMap* map, int x,
                      int y, const char* op, Site at) {
  require(SIMT_HAS_SM90, at);
  const auto* place = reinterpret_cast<const unsigned char*>(map);
  if (place >= smem_base() && place < smem_base() + smem_bytes())
    fail(at, "%s: the tensor map lies in shared memory", op);
  const TileMap& t = map->tile;
  if (smem_address(smem, at) % 128 != 0) fail(at, "%s: shared memory is not aligned to 128", op);
  const size_t bytes = size_t{1} * t.box_columns * t.box_rows * element_bytes(t.element);
  if (smem_address(smem, at) + bytes > smem_bytes())
    fail(at, "%s: the box reaches beyond shared memory", op);
  auto* s = static_cast<unsigned char*>(const_cast<void*>(smem));
  auto* g = static_cast<unsigned char*>(const_cast<void*>(t.data));
  return {run,
          s,
          g,
          t.columns,
          t.rows,
          t.pitch_bytes,
          x,
          y,
          t.box_columns,
          t.box_rows,
          element_bytes(t.element),
          swizzle_mask(t.swizzle)};
}

}  // namespace emu

// The driver refuses the same maps. CUDA driver API: cuTensorMapEncodeTiled.
inline Error make_tensor_map(TensorMap* map, const TileMap& tile) {
  const uint32_t row_bytes = tile.box_columns * emu::element_bytes(tile.element);
  const uint32_t widths[] = {256 * 4, 32, 64, 128};
  const bool right = reinterpret_cast<uintptr_t>(tile.data) % 16 == 0 &&
                     tile.pitch_bytes % 16 == 0 && tile.pitch_bytes < uint64_t{1} << 40 &&
                     tile.columns <= uint64_t{1} << 32 && tile.rows <= uint64_t{1} << 32 &&
                     tile.columns > 0 && tile.rows > 0 && tile.box_columns >= 1 &&
                     tile.box_columns <= 256 && tile.box_rows >= 1 && tile.box_rows <= 256 &&
                     row_bytes % 16 == 0 && row_bytes <= widths[static_cast<int>(tile.swizzle)];
  if (!right) return kLaunchFailed;
  map->tile = tile;
  return kSuccess;
}

inline void tma_prefetch_map(const TensorMap*, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
}
inline void tma_load(void* dst, const TensorMap* map, int x, int y, Mbarrier* b, SIMT_AT) {
  emu::bulk_load_start(emu::tile_bulk(emu::run_bulk<false>, dst, map, x, y, "tma_load", at), b, at);
}
inline void tma_load(void* dst, const TensorMap* map, int x, int y, Mbarrier* b, uint64_t,
                     SIMT_AT) {
  tma_load(dst, map, x, y, b, at);
}
inline void tma_store(const TensorMap* map, int x, int y, const void* src, SIMT_AT) {
  emu::bulk_store_start(emu::tile_bulk(emu::run_bulk<true>, src, map, x, y, "tma_store", at), at);
}
inline void tma_store_commit(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::bulk_store_commit();
}
template <int Newest>
inline void tma_store_wait(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::bulk_store_wait(Newest);
}

inline void bulk_load(void* dst, const void* src, uint32_t bytes, Mbarrier* b, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  if ((smem_address(dst, at) | reinterpret_cast<uintptr_t>(src) | bytes) % 16 != 0) {
    emu::fail(at, "bulk_load: addresses and size must be multiples of 16");
  }
  if (bytes == 0 || smem_address(dst, at) + bytes > emu::smem_bytes())
    emu::fail(at, "bulk_load: beyond shared memory");
  auto* s = static_cast<unsigned char*>(dst);
  auto* g = static_cast<unsigned char*>(const_cast<void*>(src));
  emu::bulk_load_start({emu::run_bulk<false>, s, g, bytes, 1, bytes, 0, 0, bytes, 1, 1, 0}, b, at);
}

}  // namespace simt
