// AMX tiles, and the split of activations into tiles.
//
// A tile has up to 16 rows of 64 bytes. TDPBF16PS takes row i of the activations (32 bf16) and a
// tile of weights (16 pairs of k by 16 columns). It adds their products to tile row i of sums, for
// 32 k at once. In f32, products of even k and of odd k are each one chain of fma; these are added,
// then added to the sum. It rounds to nearest; subnormal operands and results are zero (Intel SDM,
// TDPBF16PS). Row i does not depend on the tile's other rows.
//
// An f32 is the exact sum of three bf16 of its sign: its upper 8 bits, the next 8 and the last 8.
// The split truncates and does not round: so nothing overflows, and the rest is always exact.

constexpr int kTileSize = 16;           // rows of a tile; columns of a tile of f32
constexpr int64_t kTileK = 32;          // k that one tile of bf16 covers
constexpr int64_t kTileLine = 64;       // bytes of a tile's row
constexpr int64_t kParts = 3;           // of an activation
constexpr int64_t kWeightStride = 128;  // bytes between the rows of a tile of weights, in a panel
constexpr int64_t kStepBytes = 2048;    // of one panel and one tile step
constexpr int64_t kSumsStride = 256;  // bytes between the rows of a block of sums, two panels wide
constexpr int64_t kSumsBytes = kTileSize * kSumsStride;

// The shapes of all tiles, as LDTILECFG reads them.
struct TileShapes {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64, "the processor reads 64 bytes");

// Tiles 0 to 3: sums of `rows` rows, two panels wide. 4 to 6: activations, the low parts first. 7:
// weights.
inline void configure_tiles(int64_t rows) {
  TileShapes shapes = {};
  shapes.palette = 1;
  for (int i = 0; i < 8; i++) {
    shapes.row_bytes[i] = kTileLine;
    shapes.rows[i] = static_cast<uint8_t>(i < 7 ? rows : kTileSize);
  }
  __asm__ volatile("" ::: "memory");  // the intrinsics do not say that they read memory
  _tile_loadconfig(&shapes);
}

// The parts of 16 activations, as f32 whose lower halves are zero. An infinity or NaN is its own
// high part, the others zero.
struct Split {
  __m512i low, middle, high;
};
inline Split split_parts(__m512 x) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __mmask16 special = _mm512_fpclass_ps_mask(x, 0x99);  // NaNs and infinities
  const __m512i truncated = _mm512_and_si512(_mm512_castps_si512(x), upper);
  const __m512 rest = _mm512_maskz_sub_ps(_knot_mask16(special), x, _mm512_castsi512_ps(truncated));
  const __m512i middle = _mm512_and_si512(_mm512_castps_si512(rest), upper);
  const __m512 low = _mm512_sub_ps(rest, _mm512_castsi512_ps(middle));
  // Twice a NaN is a quiet NaN, whose upper half says so; twice infinity is infinity.
  const __m512 high = _mm512_mask_add_ps(_mm512_castsi512_ps(truncated), special, x, x);
  return {_mm512_castps_si512(low), middle, _mm512_castps_si512(high)};
}

// The upper halves of two vectors, one behind the other.
inline void store_upper_halves(char* line, __m512i first, __m512i second) {
  alignas(64) static constexpr uint16_t kOdd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21,
                                                    23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43,
                                                    45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  _mm512_store_si512(line, _mm512_permutex2var_epi16(first, _mm512_load_si512(kOdd), second));
}

// Splits `rows` rows (rows[i] may be null: zeros) from k on into tiles: steps of kTileK, each three
// tiles of kTileLine-byte rows. `count` k are read; what the last step lacks is zero.
inline void split_block(const float* const* row, int64_t rows, int64_t k, int64_t count,
                        char* packed) {
  for (int64_t done = 0; done < count; done += kTileK, packed += kParts * rows * kTileLine) {
    const int64_t left = count - done;
    const __mmask16 first = left >= 16 ? 0xffff : first_lanes(static_cast<int>(left));
    const __mmask16 second = left >= 32  ? 0xffff
                             : left > 16 ? first_lanes(static_cast<int>(left - 16))
                                         : 0;
    for (int64_t i = 0; i < rows; i++) {
      const float* x = row[i] == nullptr ? nullptr : row[i] + k + done;
      const Split a = split_parts(_mm512_maskz_loadu_ps(x == nullptr ? 0 : first, x));
      const Split b =
          split_parts(_mm512_maskz_loadu_ps(x == nullptr ? 0 : second, x == nullptr ? x : x + 16));
      char* line = packed + i * kTileLine;
      store_upper_halves(line, a.low, b.low);
      store_upper_halves(line + rows * kTileLine, a.middle, b.middle);
      store_upper_halves(line + 2 * rows * kTileLine, a.high, b.high);
    }
  }
}
