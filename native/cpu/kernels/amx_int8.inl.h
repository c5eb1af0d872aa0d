// Quantised rows times int8 panels by AMX tiles. It does the work of quantised_tile
// (quantised_gemm.inl.h) for more rows at once.
//
// A tile of weights is 16 quads of k by 16 columns, 128 bytes apart in the panel. A tile of rows is
// 64 k of 16 rows as they lie. Two steps are a block of 128 k. Its exact integer sums take the
// correction and the scales just as in the vector kernels, so every element has the same bits. Sums
// of one block are scaled while the tiles multiply the next.

constexpr int64_t kInt8TileRows = 2 * kTileSize;  // rows of one call at most: two tiles
constexpr int64_t kInt8TileMinRows =
    16;  // below, the vector kernel streams the weights just as fast
constexpr int64_t kInt8Step = kInt8Values / 2;  // bytes of 64 k of a panel

// Tiles 0 to 3: sums, two of columns for each of two of rows. 4, 5: rows. 6, 7: weights.
inline void configure_int8_tiles(int64_t rows) {
  const int64_t upper = rows <= kTileSize ? rows : (rows + 1) / 2,
                lower = rows <= kTileSize ? rows : rows / 2;
  TileShapes shapes = {};
  shapes.palette = 1;
  const int64_t tile_rows[8] = {upper, upper, lower, lower, upper, lower, kTileSize, kTileSize};
  for (int i = 0; i < 8; i++) {
    shapes.row_bytes[i] = kTileLine;
    shapes.rows[i] = static_cast<uint8_t>(tile_rows[i]);
  }
  __asm__ volatile("" ::: "memory");
  _tile_loadconfig(&shapes);
}

// The integer sums of one block: [rows][32 columns].
template <bool kTwo>
inline void multiply_int8_block(const char* upper, const char* lower, int64_t row_bytes,
                                const char* w, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if (kTwo) {
    _tile_zero(2);
    _tile_zero(3);
  }
  MOEPP_UNROLL for (int step = 0; step < 2;
                    step++, upper += kTileLine, lower += kTileLine, w += kInt8Step) {
    _tile_loadd(6, w, kWeightStride);
    _tile_loadd(7, w + kTileLine, kWeightStride);
    _tile_loadd(4, upper, row_bytes);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    if (kTwo) {
      _tile_loadd(5, lower, row_bytes);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
}

template <bool kTwo>
inline void store_int8_sums(int32_t* upper, int32_t* lower) {
  constexpr int64_t kStride = kPanelRows * 4;
  _tile_stored(0, upper, kStride);
  _tile_stored(1, upper + kTileSize, kStride);
  if (kTwo) {
    _tile_stored(2, lower, kStride);
    _tile_stored(3, lower + kTileSize, kStride);
  }
}

// tile[i] = fma(float(sums[i] + correction), weight scale * row scale, tile[i]) for block b of
// `count` rows.
inline void scale_int8_block(const int32_t* sums, const uint16_t* w_scales, const float* scales,
                             const int32_t* corrections, int64_t words, int64_t count, bool first,
                             float* tile) {
  const Vf left = load(w_scales), right = load(w_scales + kLanes);
  for (int64_t i = 0; i < count; i++, sums += kPanelRows, tile += kPanelRows) {
    const __m512i correction = _mm512_set1_epi32(corrections[i * words]);
    const Vf scale = set1(scales[i * words]);
    const Sums a = {_mm512_add_epi32(_mm512_load_si512(sums), correction)};
    const Sums b = {_mm512_add_epi32(_mm512_load_si512(sums + kLanes), correction)};
    store(tile, exact_fma(to_float(a), left * scale, first ? set1(0.0f) : load(tile)));
    store(tile + kLanes,
          exact_fma(to_float(b), right * scale, first ? set1(0.0f) : load(tile + kLanes)));
  }
}

template <bool kTwo>
__attribute__((noinline)) void multiply_int8(QuantPanel panel, const char* rows, int64_t row_bytes,
                                             int64_t count, Prefetch prefetch, float* tile) {
  alignas(64) int32_t sums[2][kInt8TileRows * kPanelRows];
  const int64_t upper_rows = kTwo ? (count + 1) / 2 : count, words = row_bytes / 4;
  const char* lower = rows + (kTwo ? upper_rows * row_bytes : 0);
  const float* scales = reinterpret_cast<const float*>(rows + panel.blocks * kQuantBlock);
  const int32_t* corrections =
      reinterpret_cast<const int32_t*>(rows + panel.blocks * (kQuantBlock + 4));
  const int64_t per_block = (prefetch.bytes / panel.blocks + 63) / 64 * 64;
  const char *w = panel.w, *ahead = prefetch.next;
  __asm__ volatile("" ::: "memory");
  for (int64_t b = 0; b < panel.blocks; b++, w += kInt8BlockBytes, ahead += per_block) {
    int32_t* to = sums[b % 2];
    multiply_int8_block<kTwo>(rows + b * kQuantBlock, lower + b * kQuantBlock, row_bytes, w, to);
    store_int8_sums<kTwo>(to, to + upper_rows * kPanelRows);
    for (int64_t line = 0; line < per_block; line += 64) __builtin_prefetch(ahead + line);
    if (b > 0) {
      const uint16_t* w_scales =
          reinterpret_cast<const uint16_t*>(w - kInt8BlockBytes + kInt8Values);
      scale_int8_block(sums[(b - 1) % 2], w_scales, scales + b - 1, corrections + b - 1, words,
                       count, b == 1, tile);
    }
  }
  const int64_t last = panel.blocks - 1;
  const uint16_t* w_scales = reinterpret_cast<const uint16_t*>(w - kInt8BlockBytes + kInt8Values);
  scale_int8_block(sums[last % 2], w_scales, scales + last, corrections + last, words, count,
                   last == 0, tile);
}

// `count` rows times one panel of int8 blocks. Tiles are equally high, so that they are configured
// once: the last one may overlap the one before, and gives the same bits again.
inline void int8_rows_times_panel(const Gemm& gemm, QuantPanel panel, const char* rows, int64_t r,
                                  int64_t count, int64_t panel_index, const char* next,
                                  int64_t next_bytes) {
  const int64_t tiles = (count + kInt8TileRows - 1) / kInt8TileRows,
                height = (count + tiles - 1) / tiles;
  const int64_t row_bytes = quantised_row_bytes(gemm.k);
  alignas(64) float tile[kInt8TileRows * kPanelRows];
  configure_int8_tiles(height);
  for (int64_t t = 0; t < tiles; t++) {
    const int64_t first = t + 1 < tiles ? t * height : count - height;
    const Prefetch prefetch = {next + next_bytes * t / tiles, next_bytes / tiles};
    if (height > kTileSize) {
      multiply_int8<true>(panel, rows + first * row_bytes, row_bytes, height, prefetch, tile);
    } else {
      multiply_int8<false>(panel, rows + first * row_bytes, row_bytes, height, prefetch, tile);
    }
    for (int64_t i = 0; i < height; i++)
      finish_row(gemm, tile + i * kPanelRows, r + first + i, panel_index);
  }
  _tile_release();
}
