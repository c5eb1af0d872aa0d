// One tile of a GEMM: rows of x times vectors of columns of weight panels, over all k.

constexpr int kPanelVectors = kPanelRows / kLanes;

// The tile of the prefill path is kTileRows rows by kTileVectors vectors. The sums and two
// vectors of weights per k must fit the registers (32 on AVX-512 and NEON, 16 otherwise). There
// must be enough chains to hide the latency of fma.
#if defined(__AVX512F__)
constexpr int kTileRows = 12, kTileVectors = 2, kRegisters = 32;
#elif defined(__ARM_NEON)
constexpr int kTileRows = 6, kTileVectors = 4, kRegisters = 32;
#else
constexpr int kTileRows = 6, kTileVectors = 2, kRegisters = 16;
#endif
constexpr int kDecodeRows = kTileRows < 8 ? kTileRows : 8;

// Two consecutive k of one row, bf16: of weights, or of x rounded. A panel of bf16 weights
// [K/2][32][2] is one of f32's form, [K/2][32], of such pairs.
struct Pair {
  uint16_t even, odd;
};

template <class Weight>
constexpr int kElementK = 1;  // k of one element
template <>
constexpr int kElementK<Pair> = 2;

template <class Weight>
inline int64_t elements(int64_t k) {
  return (k + kElementK<Weight> - 1) / kElementK<Weight>;
}

// An element of x as it multiplies an element of weights.
template <class Weight>
struct Operand {
  using Type = float;
  static Vf broadcast(float x) { return set1(x); }
  static Vf multiply_add(Vf x, Vf weights, Vf sum) { return fma(x, weights, sum); }
};
#if defined(MOEPP_HAS_PAIRS)
template <>
struct Operand<Pair> {
  using Type = Pair;
  static Vf broadcast(Pair x) { return set1_pair(&x); }
  static Vf multiply_add(Vf x, Vf weights, Vf sum) { return add_pair_products(x, weights, sum); }
};
#endif

// The place of x[row i][k] for a tile.
template <int kRows>
struct RowsInPlace {
  const float* row[kRows];
  float at(int i, int64_t k) const { return row[i][k]; }
};
template <int kRows, class Element>
struct RowsPacked {
  const Element* block;
  Element at(int i, int64_t k) const { return block[k * kRows + i]; }
};

// One step is what one vector load of weights covers: one element of f32 or of pairs, two of bf16.
// All are 32 times as many elements of a panel.
template <class Weight>
constexpr int kStep = sizeof(Weight) == 2 ? 2 : 1;

template <int kVectors, class Weight>
inline const Weight* vector_of(const Weight* w, int64_t panel_stride, int v) {
  return w + v / kPanelVectors * panel_stride + v % kPanelVectors * kLanes * kStep<Weight>;
}

// Vector v of the step's element number s.
template <int kVectors, class Weight>
inline Vf weights_at(const Weight* w, int64_t panel_stride, int v, int) {
  return load(reinterpret_cast<const float*>(vector_of<kVectors>(w, panel_stride, v)));
}
template <int kVectors>
inline Vf weights_at(const uint16_t* w, int64_t panel_stride, int v, int s) {
  Vf even, odd;
  load_bf16_pairs(vector_of<kVectors>(w, panel_stride, v), &even, &odd);
  return s == 0 ? even : odd;
}

// sum[i][v] += x[i] * w[v] for one element's k.
template <int kRows, int kVectors, class X, class Weight>
inline void multiply_k(const X& x, int64_t k, const Weight* w, int64_t panel_stride, int s,
                       Vf (&sum)[kRows][kVectors]) {
  Vf b[kVectors];
  MOEPP_UNROLL for (int v = 0; v < kVectors; v++) b[v] =
      weights_at<kVectors>(w, panel_stride, v, s);
  MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
    const Vf a = Operand<Weight>::broadcast(x.at(i, k + s));
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] =
        Operand<Weight>::multiply_add(a, b[v], sum[i][v]);
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) keep_in_register(sum[i][v]);
  }
}

// Prefetches by the tiles of one panel; a tile that streams its panels prefetches those instead.
struct Prefetch {
  const char* next;
  int64_t bytes;
};
constexpr int64_t kStreamAhead = 4096;  // bytes
// A loop that multiplies each line with few rows reads ahead of itself. The processor's prefetchers
// follow it: they only need to be told of the next page of memory in time. Fetching every line into
// the first level takes the buffers that they need.
template <class Weight>
constexpr int kLightRows = 4;
template <>
constexpr int kLightRows<Pair> = 6;
// bytes from one line that such a loop fetches, into the second level, to the next
constexpr int64_t kSparse = 1024;

// tile[i][.] = sum over k of x[i][k] * w[k][.], kVectors vectors wide. `w` may start inside a
// panel; past a panel's end the vectors go on in the next panel.
template <int kRows, int kVectors, bool kStream, class X, class Weight>
__attribute__((noinline)) void multiply(const X x, const Weight* w, int64_t panel_stride,
                                        int64_t k_count, Prefetch prefetch, float* tile,
                                        int64_t tile_stride) {
  constexpr int step = kStep<Weight>;
  Vf sum[kRows][kVectors];
  MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] = set1(0.0f);
  }
  const int64_t whole = k_count / step * step;
  const int64_t per_step = prefetch.bytes / (k_count / step + 1);
  const char* next = prefetch.next;
  // Past a panel's end the next tile goes on, which is kVectors further.
  const int64_t last = whole - kStreamAhead / (kPanelRows * 4) * step;
  const int64_t beyond =
      kStreamAhead + (kVectors > kPanelVectors ? kVectors / kPanelVectors - 1 : 0) * panel_stride *
                         static_cast<int64_t>(sizeof(Weight));
  int64_t k = 0;
  for (; k < whole; k += step, w += kPanelRows * step) {
    if (kStream) {
      MOEPP_UNROLL for (int v = 0; v < kVectors; v += kPanelVectors) {
        const char* line = reinterpret_cast<const char*>(vector_of<kVectors>(w, panel_stride, v)) +
                           (k < last ? kStreamAhead : beyond);
        if (kRows > kLightRows<Weight>) {
          __builtin_prefetch(line);
          __builtin_prefetch(line + 64);
        } else if (k / step % (kSparse / (kPanelRows * 4)) == 0) {
          __builtin_prefetch(line, 0, 2);
        }
      }
    } else {
      __builtin_prefetch(next, 0, 2);
      next += per_step;
    }
    multiply_k(x, k, w, panel_stride, 0, sum);
    if (step == 2) {
      // There are no registers to hold both k: the second is loaded again, which the empty
      // statement enforces.
      __asm__ volatile("" ::: "memory");
      multiply_k(x, k, w, panel_stride, 1, sum);
    }
  }
  // An odd k of bf16: its partner in the panel is padding, and has no x.
  if (k < k_count) multiply_k(x, k, w, panel_stride, 0, sum);
  MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++)
        store(tile + i * tile_stride + v * kLanes, sum[i][v]);
  }
}

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include "bf16_matrices.inl.h"
#endif
