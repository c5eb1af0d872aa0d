// The ceilings of AMX: products of tiles that are never loaded.
#include "bench.h"
#include "cpu/thread_pool.h"

#if defined(MOEPP_HAS_AMX)
#include <immintrin.h>

#include <cstring>
#endif

namespace moepp::bench {

#if defined(MOEPP_HAS_AMX)

#define MOEPP_TILES __attribute__((target("amx-tile,amx-bf16,amx-int8")))

constexpr int64_t kRounds = 1 << 14;  // of four products of 16 x 16 sums, with 32 bf16 or 64 bytes in each

MOEPP_TILES static void multiply_tiles(bool bytes) {
  alignas(64) unsigned char shapes[64] = {1};
  const uint16_t row_bytes = 64;
  for (int tile = 0; tile < 8; tile++) {
    std::memcpy(shapes + 16 + 2 * tile, &row_bytes, 2);
    shapes[48 + tile] = 16;
  }
  __asm__ volatile("" ::: "memory");
  _tile_loadconfig(shapes);
  if (bytes) {
    for (int64_t r = 0; r < kRounds; r++) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  } else {
    for (int64_t r = 0; r < kRounds; r++) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_release();
}

double tile_gop_s(bool bytes, Queue& queue) {
  auto& pool = static_cast<cpu::ThreadPool&>(queue);
  const int64_t tasks = int64_t{4} * pool.threads();
  const double start = now();
  pool.parallel_for(tasks, [&](int64_t, int) { multiply_tiles(bytes); });
  return 2e-9 * 16 * 16 * (bytes ? 64 : 32) * 4 * static_cast<double>(tasks * kRounds) / (now() - start);
}

#else

double tile_gop_s(bool, Queue&) {
  return 0.0;
}

#endif

}  // namespace moepp::bench
