#include "tile_products.h"

#if defined(MOEPP_HAS_AMX)
#include <immintrin.h>

#include <cstring>

namespace moepp::cpu {

#define MOEPP_TILES __attribute__((target("amx-tile,amx-bf16,amx-int8")))

MOEPP_TILES static void configure_tiles() {
  alignas(64) unsigned char shapes[64] = {1};
  const uint16_t row_bytes = 64;
  for (int tile = 0; tile < 8; tile++) {
    std::memcpy(shapes + 16 + 2 * tile, &row_bytes, 2);
    shapes[48 + tile] = 16;
  }
  __asm__ volatile("" ::: "memory");
  _tile_loadconfig(shapes);
}

MOEPP_TILES uint64_t multiply_bf16_tiles() {
  configure_tiles();
  for (int64_t r = 0; r < kTileRounds; r++) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 0;
}

MOEPP_TILES uint64_t multiply_int8_tiles() {
  configure_tiles();
  for (int64_t r = 0; r < kTileRounds; r++) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_release();
  return 0;
}

}  // namespace moepp::cpu
#endif
