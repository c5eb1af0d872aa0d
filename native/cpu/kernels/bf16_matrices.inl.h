// A tile of rounded x times bf16 weights by BFMMLA: what gemm_tile.inl.h does otherwise, for two
// rows or more. The bits are the same. BFMMLA adds the products of two pairs one after the other,
// as two BFDOT do (Arm's manual).
//
// BFMMLA multiplies 4 k of two columns by 4 k of two rows: four sums, [2 columns][2 rows]. A vector
// of weights holds one pair of k of four columns. Two of them, zipped, are 4 k of two columns and
// of two more; so are those of x. At the end the sums are unzipped to rows.

// Pairs k and k + 1 of rows i and i + 1; of row i twice where it is the last.
template <int kRows>
inline bfloat16x8_t two_rows(const Pair* block, int64_t k, int i) {
  const auto pairs = [&](int64_t at) {
    const uint32_t* pair = reinterpret_cast<const uint32_t*>(block + at * kRows + i);
    const uint32x2_t both = i + 1 < kRows ? vld1_u32(pair) : vld1_dup_u32(pair);
    return vcombine_u32(both, both);
  };
  return vreinterpretq_bf16_u32(vzip1q_u32(pairs(k), pairs(k + 1)));
}

template <int kRows, int kVectors, bool kStream>
__attribute__((noinline)) void multiply_by_matrices(const RowsPacked<kRows, Pair> x, const Pair* w,
                                                    int64_t panel_stride, int64_t pairs,
                                                    Prefetch prefetch, float* tile,
                                                    int64_t tile_stride) {
  constexpr int kRowPairs = (kRows + 1) / 2;
  float32x4_t sum[kRowPairs][2 * kVectors];
  MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) {
    MOEPP_UNROLL for (int v = 0; v < 2 * kVectors; v++) sum[i][v] = vdupq_n_f32(0.0f);
  }
  const int64_t whole = pairs / 2 * 2, per_step = prefetch.bytes / (pairs / 2 + 1);
  const char* next = prefetch.next;
  for (int64_t k = 0; k < whole; k += 2, w += 2 * kPanelRows, next += per_step) {
    if (kStream) {
      MOEPP_UNROLL for (int v = 0; v < kVectors; v += kPanelVectors) {
        const char* line = reinterpret_cast<const char*>(vector_of<kVectors>(w, panel_stride, v));
        MOEPP_UNROLL for (int at = 0; at < 256; at += 64)
            __builtin_prefetch(line + kStreamAhead + at);
      }
    } else {
      __builtin_prefetch(next, 0, 2);
    }
    bfloat16x8_t in[kRowPairs];
    MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) in[i] = two_rows<kRows>(x.block, k, 2 * i);
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
      const float32x4_t first = weights_at<kVectors>(w, panel_stride, v, 0).v,
                        second = weights_at<kVectors>(w + kPanelRows, panel_stride, v, 0).v;
      const bfloat16x8_t left = pairs_of({vzip1q_f32(first, second)}),
                         right = pairs_of({vzip2q_f32(first, second)});
      MOEPP_UNROLL for (int i = 0; i < kRowPairs; i++) {
        sum[i][2 * v] = vbfmmlaq_f32(sum[i][2 * v], left, in[i]);
        sum[i][2 * v + 1] = vbfmmlaq_f32(sum[i][2 * v + 1], right, in[i]);
      }
    }
  }
  Vf rows[kRows][kVectors];
  MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
      const float32x4_t left = sum[i / 2][2 * v], right = sum[i / 2][2 * v + 1];
      rows[i][v].v = i % 2 == 0 ? vuzp1q_f32(left, right) : vuzp2q_f32(left, right);
    }
  }
  if (whole < pairs) multiply_k(x, whole, w, panel_stride, 0, rows);
  MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++)
        store(tile + i * tile_stride + v * kLanes, rows[i][v]);
  }
}
