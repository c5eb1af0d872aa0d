// Quantised rows times int8 or int4 panels by USMMLA. It does the work of multiply_quantised
// (quantised_gemm.inl.h) for two rows or more: the same integers, so the same bits.
//
// USMMLA multiplies 8 k of two columns (unsigned bytes) by 8 k of two rows (signed): four sums,
// [2 columns][2 rows]. Both quads of a pair hold 4 k of four columns; zipped, they are 8 k of two
// columns and of two more. The sums of a block are unzipped to rows.

// 8 k of rows i and i + 1; of row i twice where it is the last.
template <int kRows>
inline int8x16_t two_rows(const int8_t* x, int64_t row_bytes, int i) {
  const int8_t* row = x + i * row_bytes;
  return vcombine_s8(vld1_s8(row), vld1_s8(i + 1 < kRows ? row + row_bytes : row));
}

// Columns 0 and 1, then 2 and 3, of 8 k: their two quads.
struct ColumnPairs {
  uint8x16_t left, right;
};
inline ColumnPairs zip_quads(Words low, Words high) {
  const uint32x4_t a = vreinterpretq_u32_u8(low.v), b = vreinterpretq_u32_u8(high.v);
  return {vreinterpretq_u8_u32(vzip1q_u32(a, b)), vreinterpretq_u8_u32(vzip2q_u32(a, b))};
}

template <int kRows, int kVectors, bool kInt4>
__attribute__((noinline)) void multiply_by_matrices(QuantPanel panel, int vector, const char* rows,
                                                    int64_t row_bytes, Prefetch prefetch,
                                                    float* tile) {
  constexpr int64_t value_bytes = kInt4 ? kInt4Values : kInt8Values,
                    bytes = kInt4 ? kInt4BlockBytes : kInt8BlockBytes;
  constexpr int kPairs = kQuantBlock / 8, kRowPairs = (kRows + 1) / 2;
  const int8_t* x = reinterpret_cast<const int8_t*>(rows);
  const float* scales = reinterpret_cast<const float*>(rows + panel.blocks * kQuantBlock);
  const int32_t* corrections =
      reinterpret_cast<const int32_t*>(rows + panel.blocks * (kQuantBlock + 4));
  const int64_t words = row_bytes / 4;  // from one row's scale to the next row's
  const uint8_t* w = reinterpret_cast<const uint8_t*>(panel.w) + vector * kLanes * 4;
  const uint16_t* w_scales =
      reinterpret_cast<const uint16_t*>(panel.w + value_bytes) + vector * kLanes;
  const char* ahead = prefetch.next;
  const int64_t per_pair = prefetch.bytes / (panel.blocks * kPairs);
  tile += vector * kLanes;
  for (int64_t b = 0; b < panel.blocks; b++) {
    int32x4_t sum[kRowPairs][2 * kVectors];
    MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) {
      const int32_t upper = corrections[2 * i * words + b],
                    lower = 2 * i + 1 < kRows ? corrections[(2 * i + 1) * words + b] : upper;
      const int32x4_t both = {upper, lower, upper, lower};
      MOEPP_UNROLL for (int v = 0; v < 2 * kVectors; v++) sum[i][v] = both;
    }
    for (int group = 0; group < kInt4Groups; group++) {
      Int4Scale scale[kVectors];
      if (kInt4) {
        MOEPP_UNROLL for (int v = 0; v < kVectors; v++) scale[v] =
            int4_scale(load_int4_scales(w_scales + v * kLanes), group);
      }
      for (int pair = 0; pair < kPairs / kInt4Groups; pair++) {
        for (int64_t line = 0; line < per_pair; line += 64) __builtin_prefetch(ahead + line);
        ahead += per_pair;
        int8x16_t in[kRowPairs];
        MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) in[i] =
            two_rows<kRows>(x, row_bytes, 2 * i);
        MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
          Words low = load_words(w + v * kLanes * 4), high;
          if (kInt4) {
            high = int4_words(high_halves(low), scale[v]);
            low = int4_words(low_halves(low), scale[v]);
          } else {
            high = load_words(w + (kPanelRows + v * kLanes) * 4);
          }
          const ColumnPairs columns = zip_quads(low, high);
          MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) {
            sum[i][2 * v] = vusmmlaq_s32(sum[i][2 * v], columns.left, in[i]);
            sum[i][2 * v + 1] = vusmmlaq_s32(sum[i][2 * v + 1], columns.right, in[i]);
          }
        }
        w += value_bytes / kPairs;
        x += 8;
      }
    }
    w += bytes - value_bytes;
    Sums row_sums[kRows][kVectors];
    MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
      MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
        const int32x4_t left = sum[i / 2][2 * v], right = sum[i / 2][2 * v + 1];
        row_sums[i][v].v = i % 2 == 0 ? vuzp1q_s32(left, right) : vuzp2q_s32(left, right);
      }
    }
    add_block<kInt4>(row_sums, w_scales, scales, words, b, tile);
    w_scales += bytes / 2;
  }
}
