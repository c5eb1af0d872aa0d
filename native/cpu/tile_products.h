// Products of AMX tiles that are never loaded, to measure their rate; only where the set "amx" is
// available.
#pragma once

#include <cstdint>

namespace moepp::cpu {

#if defined(MOEPP_HAS_AMX)

constexpr int64_t kTileRounds = 1 << 14;

// kTileRounds rounds of four products of 16 x 16 sums, each over 32 bf16 or over 64 bytes. Returns
// 0.
uint64_t multiply_bf16_tiles();
uint64_t multiply_int8_tiles();

// Operations of one call.
constexpr double bf16_tile_operations() {
  return 2.0 * 16 * 16 * 32 * 4 * kTileRounds;
}
constexpr double int8_tile_operations() {
  return 2.0 * bf16_tile_operations();
}

#endif

}  // namespace moepp::cpu
