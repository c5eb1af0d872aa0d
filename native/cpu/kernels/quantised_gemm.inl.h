// Rows times int8 or int4 weight panels (panels.h): linear and grouped_gemm for quantised weights.
//
// The rows are quantised first (quantised_rows.inl.h). Then, for a row, a column, and the blocks b
// = 0, 1, 2 ... of 128 k:
//   sum = fma(float(dot_b), weight scale_b * row scale_b, sum)
// dot_b is the exact integer sum of the block's products. So every element has the same bits
// whatever the number of rows, the tile, the thread, the path and the instruction set. (Activation
// functions of the sums are as exact as the set's fma.) An int4 block is an int8 block with its
// values multiplied out (quantise.h). Many rows do that once per panel, fewer in registers. Very
// few scale the sums of 32 k instead, which gives the same integers.
//
// One job does it all: its first tasks quantise, and the others wait until these are done. Tasks
// are handed out in ascending order and the first ones never wait, so no task waits for ever.

// A tile is so many rows by so many vectors of columns: sums, weights and one vector of inputs stay
// in registers.
#if defined(__AVX512F__)
constexpr int kQuantTileRows = 12, kQuantTileVectors = 2;
#elif defined(__ARM_NEON)
constexpr int kQuantTileRows = 6, kQuantTileVectors = 4;
#elif defined(__AVXVNNI__)
constexpr int kQuantTileRows = 6, kQuantTileVectors = 2;
#else
constexpr int kQuantTileRows = 4, kQuantTileVectors = 2;
#endif

// From so many rows of a chunk on, an int4 panel is made an int8 panel in the thread's scratch
// before it multiplies them.
constexpr int64_t kExpandRows = 32;
// Up to so many rows of int4 it is cheaper to scale the sums of groups than the weights. Measured
// on a Zen 4 core, weights in cache, for 1, 2 and 3 rows. With VNNI they take 26, 12, 6 % less
// time. With AVX-512 alone it is 17 % less, 4 % more, 29 % more; AVX2 the like; more without.
#if defined(__AVX512VNNI__)
constexpr int kInt4GroupRows = 3;
#elif defined(__AVX2__) || defined(__ARM_NEON)
constexpr int kInt4GroupRows = 1;
#else
constexpr int kInt4GroupRows = 0;
#endif
// Prefetch distance of the only tile of a panel.
constexpr int64_t kQuantStreamAhead = 4096;  // bytes
// Further distance, for one line of each KiB. A mapped file lies in pages of 4 KiB, whose
// page-table entries so come in time, too. One thread reads 75 % of its ceiling from them instead
// of 68 %, and the same from huge pages (Zen 4).
constexpr int64_t kSparseBeyond = 12 << 10;
// Bytes of quantised rows that one task takes: they stay in the second-level cache while panels
// pass.
constexpr int64_t kQuantChunkBytes = 512 << 10;

struct QuantisedGemm {
  Gemm gemm;
  char* rows;           // quantised rows [first, last) of the pass
  int64_t first, last;  // rows of the pass
  int64_t quantise_tasks, rows_per_task;
  int64_t done = 0;  // quantise tasks that are; shared by the threads
  int64_t chunk_rows;
};

// One panel's place for a tile: int8 or int4 blocks from some vector of columns on.
struct QuantPanel {
  const char* w;
  int64_t blocks;
};

template <bool kInt4>
inline Vf load_scales(const uint16_t* p) {
  if (!kInt4) return load(p);
  uint16_t scales[kLanes];
  MOEPP_UNROLL for (int i = 0; i < kLanes; i++) scales[i] = p[i] & kInt4ScaleMask;
  return load(scales);
}

// Adds the sums of block b to the tile. scales: of the first row's blocks; words: from one row's to
// the next.
template <bool kInt4, int kRows, int kVectors>
__attribute__((always_inline)) inline void add_block(const Sums (&sum)[kRows][kVectors],
                                                     const uint16_t* w_scales, const float* scales,
                                                     int64_t words, int64_t b, float* tile) {
  MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
    const Vf w_scale = load_scales<kInt4>(w_scales + v * kLanes);
    MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
      float* to = tile + i * kPanelRows + v * kLanes;
      const Vf before = b == 0 ? set1(0.0f) : load(to);
      store(to, exact_fma(to_float(sum[i][v]), w_scale * set1(scales[i * words + b]), before));
    }
  }
}

// Sums of kRows rows and kVectors vectors of columns from vector `vector` of the panel on, to
// tile[i][vector ..].
template <int kRows, int kVectors, bool kInt4>
__attribute__((noinline)) void multiply_quantised(QuantPanel panel, int vector, const char* rows,
                                                  int64_t row_bytes, Prefetch prefetch,
                                                  float* tile) {
  constexpr int64_t value_bytes = kInt4 ? kInt4Values : kInt8Values,
                    bytes = kInt4 ? kInt4BlockBytes : kInt8BlockBytes;
  constexpr int pairs = kQuantBlock / 8;
  const int8_t* x = reinterpret_cast<const int8_t*>(rows);
  const float* scales = reinterpret_cast<const float*>(rows + panel.blocks * kQuantBlock);
  const int32_t* corrections =
      reinterpret_cast<const int32_t*>(rows + panel.blocks * (kQuantBlock + 4));
  const int64_t words = row_bytes / 4;  // from one row's scale to the next row's
  const uint8_t* w = reinterpret_cast<const uint8_t*>(panel.w) + vector * kLanes * 4;
  const uint16_t* w_scales =
      reinterpret_cast<const uint16_t*>(panel.w + value_bytes) + vector * kLanes;
  const char* ahead = prefetch.next;
  const int64_t per_pair = prefetch.bytes / (panel.blocks * pairs),
                per_group = prefetch.bytes / (panel.blocks * kInt4Groups);
  const bool sparse = per_group >= kSparse;
  tile += vector * kLanes;
  for (int64_t b = 0; b < panel.blocks; b++) {
    Sums sum[kRows][kVectors];
    MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
      MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] =
          set_sums(kBiasedWeights ? corrections[i * words + b] : 0);
    }
    for (int group = 0; group < kInt4Groups; group++) {
      if (!kInt4) {
        if (sparse) {  // the only tile of a panel leaves the lines in between to the processor's
                       // prefetchers (gemm.inl.h)
          __builtin_prefetch(ahead + kSparseBeyond, 0, 2);
        } else {
          for (int64_t line = 0; line < per_group; line += 64)
            __builtin_prefetch(ahead + line, 0, 2);
        }
        ahead += per_group;
      }
      Int4Scale scale[kVectors];
      if (kInt4) {
        MOEPP_UNROLL for (int v = 0; v < kVectors; v++) scale[v] =
            int4_scale(load_int4_scales(w_scales + v * kLanes), group);
      }
      for (int pair = 0; pair < pairs / kInt4Groups; pair++) {
        if (kInt4) {
          MOEPP_UNROLL for (int line = 0; line < value_bytes / pairs; line += 64)
              __builtin_prefetch(ahead + line);
          ahead += per_pair;
        }
        Words raw[kVectors];
        if (kInt4) {
          MOEPP_UNROLL for (int v = 0; v < kVectors; v++) raw[v] = load_words(w + v * kLanes * 4);
          w += kPanelRows * 4;
        }
        MOEPP_UNROLL for (int quad = 0; quad < 2; quad++) {
          Weights ready[kVectors];
          MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
            ready[v] =
                prepare(!kInt4 ? load_words(w + v * kLanes * 4)
                               : int4_words(quad == 0 ? low_halves(raw[v]) : high_halves(raw[v]),
                                            scale[v]));
          }
          if (!kInt4) w += kPanelRows * 4;
          MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
            const Inputs in = broadcast(x + i * row_bytes + 4 * quad);
            MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] =
                dot(sum[i][v], ready[v], in);
          }
        }
        x += 8;
      }
    }
    w += bytes - value_bytes;
    add_block<kInt4>(sum, w_scales, scales, words, b, tile);
    w_scales += bytes / 2;
  }
}

// The same of int4 for a few rows. The halves are multiplied as they are. The sums of each group of
// 32 k get the correction that would have made weights of them. The same integers come out.
template <int kRows, int kVectors>
__attribute__((noinline)) void multiply_int4_groups(QuantPanel panel, int vector, const char* rows,
                                                    int64_t row_bytes, Prefetch prefetch,
                                                    float* tile) {
  constexpr int64_t pairs_in_group = kInt4Group / 8, group_bytes = kInt4Values / kInt4Groups;
  const int8_t* x = reinterpret_cast<const int8_t*>(rows);
  const float* scales = reinterpret_cast<const float*>(rows + panel.blocks * kQuantBlock);
  const int32_t* group_sums =
      reinterpret_cast<const int32_t*>(rows + panel.blocks * (kQuantBlock + 8));
  const int64_t words = row_bytes / 4;  // from one row's scale to the next row's
  const uint8_t* w = reinterpret_cast<const uint8_t*>(panel.w) + vector * kLanes * 4;
  const char* ahead = prefetch.next;
  const int64_t per_group = prefetch.bytes / (panel.blocks * kInt4Groups);
  tile += vector * kLanes;
  for (int64_t b = 0; b < panel.blocks; b++) {
    const char* block_scales = panel.w + b * kInt4BlockBytes + kInt4Values;
    const uint16_t* w_scales = reinterpret_cast<const uint16_t*>(block_scales) + vector * kLanes;
    if (kRows == 1) {  // a block's scales are read before its values, and stand behind them
      __builtin_prefetch(block_scales + 2 * kInt4BlockBytes);
      __builtin_prefetch(block_scales + 2 * kInt4BlockBytes + 64);
    }
    Sums total[kRows][kVectors];
    MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
      MOEPP_UNROLL for (int v = 0; v < kVectors; v++) total[i][v] = set_sums(0);
    }
    for (int group = 0; group < kInt4Groups; group++) {
      if (kRows == 1) {
        __builtin_prefetch(ahead + kSparseBeyond, 0, 2);
      } else {
        for (int64_t line = 0; line < per_group; line += 64) __builtin_prefetch(ahead + line);
      }
      ahead += per_group;
      Sums sum[kRows][kVectors];
      MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
        MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] = set_sums(0);
      }
      MOEPP_UNROLL for (int pair = 0; pair < pairs_in_group; pair++) {
        Words raw[kVectors];
        MOEPP_UNROLL for (int v = 0; v < kVectors; v++) raw[v] =
            load_words(w + (pair * kPanelRows + v * kLanes) * 4);
        MOEPP_UNROLL for (int quad = 0; quad < 2; quad++) {
          Weights ready[kVectors];
          MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
            ready[v] = prepare_halves(quad == 0 ? low_halves(raw[v]) : high_halves(raw[v]));
          }
          MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
            const Inputs in = broadcast(x + i * row_bytes + 8 * pair + 4 * quad);
            MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] =
                dot(sum[i][v], ready[v], in);
          }
        }
      }
      w += group_bytes;
      x += kInt4Group;
      MOEPP_UNROLL for (int v = 0; v < kVectors; v++) {
        const Int4GroupScale scale =
            int4_group_scale(load_int4_scales(w_scales + v * kLanes), group);
        MOEPP_UNROLL for (int i = 0; i < kRows; i++) {
          const Sums inputs = set_sums(group_sums[i * words + b * kInt4Groups + group]);
          total[i][v] = int4_sums(total[i][v], scale, sum[i][v], inputs);
        }
      }
    }
    w += kInt4BlockBytes - kInt4Values;
    add_block<true>(total, w_scales, scales, words, b, tile);
  }
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
#include "i8mm_gemm.inl.h"
#endif

// Vectors of a tile of so many rows: those of a whole panel where they fit.
constexpr int quant_vectors(int rows) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  rows = (rows + 1) / 2 * 2;
#endif
  return rows * kPanelVectors <= kQuantTileRows * kQuantTileVectors ? kPanelVectors
                                                                    : kQuantTileVectors;
}

template <int kRows, bool kInt4>
inline void quantised_tile(const Gemm& gemm, QuantPanel panel, const char* rows, int64_t r,
                           int64_t count, int64_t panel_index, Prefetch prefetch) {
  if (count == kRows) {
    constexpr int vectors = quant_vectors(kRows);
    alignas(64) float tile[kRows * kPanelRows];
    prefetch.bytes = prefetch.bytes * vectors / kPanelVectors;
    for (int v = 0; v < kPanelVectors; v += vectors) {
      if constexpr (kInt4 && kRows <= kInt4GroupRows) {
        multiply_int4_groups<kRows, vectors>(panel, v, rows, quantised_row_bytes(gemm.k), prefetch,
                                             tile);
#if defined(__ARM_FEATURE_MATMUL_INT8)
      } else if constexpr (kRows > 1) {
        multiply_by_matrices<kRows, vectors, kInt4>(panel, v, rows, quantised_row_bytes(gemm.k),
                                                    prefetch, tile);
#endif
      } else {
        multiply_quantised<kRows, vectors, kInt4>(panel, v, rows, quantised_row_bytes(gemm.k),
                                                  prefetch, tile);
      }
      prefetch.next += prefetch.bytes;
    }
    for (int i = 0; i < kRows; i++) finish_row(gemm, tile + i * kPanelRows, r + i, panel_index);
  } else if constexpr (kRows > 1) {
    quantised_tile<kRows - 1, kInt4>(gemm, panel, rows, r, count, panel_index, prefetch);
  }
}

// Makes an int8 panel of an int4 panel.
inline void expand_panel(const char* from, int64_t blocks, char* to) {
  for (int64_t b = 0; b < blocks; b++, from += kInt4BlockBytes, to += kInt8BlockBytes) {
    const uint8_t* w = reinterpret_cast<const uint8_t*>(from);
    uint8_t* out = reinterpret_cast<uint8_t*>(to);
    const uint16_t* scales = reinterpret_cast<const uint16_t*>(from + kInt4Values);
    for (int v = 0; v < kPanelVectors; v++) {
      const Int4Scales int4_scales = load_int4_scales(scales + v * kLanes);
      for (int group = 0; group < kInt4Groups; group++) {
        const Int4Scale scale = int4_scale(int4_scales, group);
        for (int pair = group * 4; pair < group * 4 + 4; pair++) {
          const Words raw = load_words(w + (pair * kPanelRows + v * kLanes) * 4);
          store_words(out + (2 * pair * kPanelRows + v * kLanes) * 4,
                      int4_words(low_halves(raw), scale));
          store_words(out + ((2 * pair + 1) * kPanelRows + v * kLanes) * 4,
                      int4_words(high_halves(raw), scale));
        }
      }
    }
    uint16_t* out_scales = reinterpret_cast<uint16_t*>(to + kInt8Values);
    for (int64_t i = 0; i < kPanelRows; i++) out_scales[i] = scales[i] & kInt4ScaleMask;
  }
}

#if defined(__AMX_INT8__)
#include "amx_int8.inl.h"
#endif

// Rows [r, r + count) of one group times panels [panel, panel + panels), which begin at w.
inline void quantised_rows_times_panels(const QuantisedGemm& q, int64_t r, int64_t count,
                                        const char* w, int64_t panel, int64_t panels,
                                        char* scratch) {
  const Gemm& gemm = q.gemm;
  const int64_t bytes = panel_bytes(gemm.dtype, gemm.k), blocks = quant_blocks(gemm.k),
                row_bytes = quantised_row_bytes(gemm.k);
  const int64_t tiles = (count + kQuantTileRows - 1) / kQuantTileRows;
  const bool int4 = gemm.dtype == DType::kI4;
  const bool expand = int4 && count >= kExpandRows &&
                      blocks * kInt8BlockBytes <= static_cast<int64_t>(kScratchBytes);
  const char* rows = q.rows + (r - q.first) * row_bytes;
  for (int64_t p = 0; p < panels; p++, w += bytes) {
    if (expand) expand_panel(w, blocks, scratch);
#if defined(__AMX_INT8__)
    if (count >= kInt8TileMinRows && (!int4 || expand)) {
      int8_rows_times_panel(gemm, {expand ? scratch : w, blocks}, rows, r, count, panel + p,
                            w + bytes, bytes);
      continue;
    }
#endif
    for (int64_t t = 0; t < tiles; t++) {
      const int64_t first = split(count, t, tiles), n = split(count, t + 1, tiles) - first;
      // The only tile of a panel streams it from memory; of several, each fetches its share of the
      // next panel.
      const Prefetch prefetch = tiles == 1 ? Prefetch{w + kQuantStreamAhead, bytes}
                                           : Prefetch{w + bytes + bytes * t / tiles, bytes / tiles};
      if (int4 && !expand) {
        quantised_tile<kQuantTileRows, true>(gemm, {w, blocks}, rows + first * row_bytes, r + first,
                                             n, panel + p, prefetch);
      } else {
        quantised_tile<kQuantTileRows, false>(gemm, {expand ? scratch : w, blocks},
                                              rows + first * row_bytes, r + first, n, panel + p,
                                              prefetch);
      }
    }
  }
}

// The rows of a group that belong to the pass, and their tasks.
inline Tiling quantised_tiling(const QuantisedGemm& q, int64_t group, int64_t* first) {
  const int64_t begin = q.gemm.offsets[group], end = q.gemm.offsets[group + 1];
  *first = begin > q.first ? begin : q.first;
  const int64_t last = end < q.last ? end : q.last, rows = last > *first ? last - *first : 0;
  if (rows <= kQuantTileRows) return decode_tiling(q.gemm, group, rows, q.chunk_rows);
  return rows_tiling(rows, q.chunk_rows, q.gemm.prefill);
}

inline void quantised_task(const QuantisedGemm& q, int64_t task, char* scratch) {
  const Gemm& gemm = q.gemm;
  int64_t group = 0, begin = 0;
  Tiling tiling;
  for (;; group++) {
    tiling = quantised_tiling(q, group, &begin);
    if (task < tiling.tasks()) break;
    task -= tiling.tasks();
  }
  const int64_t chunk = task / tiling.ranges;
  const int64_t first = split(tiling.rows, chunk, tiling.chunks),
                count = split(tiling.rows, chunk + 1, tiling.chunks) - first;
  int64_t panel, panels;
  tiling.panels->range(task % tiling.ranges, &panel, &panels);
  const char* w = gemm.weight + (group * gemm.panels + panel) * panel_bytes(gemm.dtype, gemm.k);
  quantised_rows_times_panels(q, begin + first, count, w, panel, panels, scratch);
}

inline void quantise_task(QuantisedGemm& q, int64_t task) {
  const int64_t first = q.first + task * q.rows_per_task;
  const int64_t last = first + q.rows_per_task < q.last ? first + q.rows_per_task : q.last;
  for (int64_t r = first; r < last; r++)
    quantise_row(q.gemm.row(r), q.gemm.k, quantised_row(q.rows, r - q.first, q.gemm.k));
  __atomic_fetch_add(&q.done, 1, __ATOMIC_RELEASE);
}

inline void wait_until_quantised(const QuantisedGemm& q) {
  for (int pauses = 0; __atomic_load_n(&q.done, __ATOMIC_ACQUIRE) < q.quantise_tasks; pauses++)
    ThreadPool::wait_a_little(pauses);
}

// Rows [q.first, q.last), which the job's scratch holds.
inline void run_quantised_pass(QuantisedGemm& q, ThreadPool& pool) {
  Gemm& gemm = q.gemm;
  const int64_t threads = pool.threads(), rows = q.last - q.first,
                row_bytes = quantised_row_bytes(gemm.k);
  q.rows_per_task = kTaskBytes / (gemm.k * 4 + 1) + 1;
  q.quantise_tasks = (rows + q.rows_per_task - 1) / q.rows_per_task;
  q.done = 0;
  const int64_t cached =
      kQuantChunkBytes / row_bytes > kQuantTileRows ? kQuantChunkBytes / row_bytes : kQuantTileRows;
  const int64_t fair =
      clamp((rows + threads - 1) / threads, 8 * kQuantTileRows, rows + 8 * kQuantTileRows);
  q.chunk_rows = fair < cached ? fair : cached;
  share_decode(gemm, threads, q.first, q.last);
  int64_t panels = 0;
  for (int64_t g = 0, first; g < gemm.groups; g++)
    panels += quantised_tiling(q, g, &first).chunks * gemm.panels;
  gemm.prefill = even_ranges(gemm.panels, threads,
                             clamp(panels / (threads * 8), clamp(panels / threads, 1, 16), 64));
  int64_t tasks = q.quantise_tasks;
  for (int64_t g = 0, first; g < gemm.groups; g++) tasks += quantised_tiling(q, g, &first).tasks();
  pool.parallel_for(tasks, [&q, &pool](int64_t task, int thread) {
    if (task < q.quantise_tasks) return quantise_task(q, task);
    wait_until_quantised(q);
    quantised_task(q, task - q.quantise_tasks, reinterpret_cast<char*>(pool.scratch(thread)));
  });
}

inline void run_quantised_gemm(const GemmArgs& gemm, ThreadPool& pool) {
  QuantisedGemm q = {};
  q.gemm = {gemm};
  q.rows = reinterpret_cast<char*>(pool.job_scratch());
  const int64_t most = static_cast<int64_t>(kJobScratchBytes) / quantised_row_bytes(gemm.k),
                end = gemm.offsets[gemm.groups];
  for (q.first = gemm.offsets[0]; q.first < end; q.first = q.last) {
    q.last = q.first + most < end ? q.first + most : end;
    run_quantised_pass(q, pool);
  }
}
