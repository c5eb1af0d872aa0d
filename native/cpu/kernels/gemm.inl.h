// Rows times weight panels (panels.h), the work of linear and grouped_gemm.
//
// Every element of the output is one chain of f32 fma over k = 0, 1, 2 .... The number of rows, the
// tile, the thread and the path do not matter. So a token's row has the same bits in prefill, in
// decode and in any batch. bf16 weights are widened exactly, in registers: one shift or mask per
// vector, which hides behind the fma. The set avx512bf16 rounds x to bf16 instead, where an op lets
// it. There the chain is over pairs of k, two products each.
//
// Two paths:
//   few rows   (decode) the weights are streamed once, straight from memory; x is read in place, or
//              rounded first
//   many rows  x is packed into blocks of rows, [k][rows of the block], so that a tile reads it as
//              one stream; each panel then meets all blocks while it is in L2, and the next panel
//              is prefetched meanwhile

#include "panel_ranges.inl.h"

constexpr int kPanelVectors = kPanelRows / kLanes;

// The tile of the many-rows path is kTileRows rows by kTileVectors vectors. The sums and two
// vectors of weights per k must fit the registers (32 on AVX-512 and NEON, 16 otherwise). There
// must be enough chains to hide the latency of fma.
#if defined(__AVX512F__)
constexpr int kTileRows = 12, kTileVectors = 2, kRegisters = 32;
#elif defined(__ARM_NEON)
constexpr int kTileRows = 6, kTileVectors = 4, kRegisters = 32;
#else
constexpr int kTileRows = 6, kTileVectors = 2, kRegisters = 16;
#endif
constexpr int kFewRows = kTileRows < 8 ? kTileRows : 8;

// Bytes of x that the many-rows path packs at a time.
constexpr int64_t kPackedBytes = static_cast<int64_t>(kScratchBytes);
struct Gemm : GemmArgs {
  // Derived once per call.
  int64_t chunk_rows = 0;      // rows that one task takes at most
  Guided few = {}, many = {};  // panels that one task takes on either path
  // On the few-rows path, of groups before `shared_from` one thread takes all panels. 0: all groups
  // are shared.
  Guided whole = {};
  int64_t shared_from = 0;

  const float* row(int64_t r) const {
    return x + (order != nullptr ? order[r] / picks_per_row : r) * k;
  }
};

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

// The elements of x per element of weights, and their order.
template <class Weight>
struct Factor {
  using Type = float;
  static Vf spread(float x) { return set1(x); }
  static Vf multiply_add(Vf factor, Vf weights, Vf sum) { return fma(factor, weights, sum); }
};
#if defined(__AVX512BF16__)
static_assert(kMostRoundedInputs * 2 * kTileRows <= kPackedBytes,
              "a tile's rows fit a thread's scratch");

template <>
struct Factor<Pair> {
  using Type = Pair;
  static Vf spread(Pair x) { return set1_pair(&x); }
  static Vf multiply_add(Vf factor, Vf weights, Vf sum) {
    return add_pair_products(factor, weights, sum);
  }
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
    const Vf a = Factor<Weight>::spread(x.at(i, k + s));
    MOEPP_UNROLL for (int v = 0; v < kVectors; v++) sum[i][v] =
        Factor<Weight>::multiply_add(a, b[v], sum[i][v]);
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

// tanh(x) = e / (e + 2), e = exp(2x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), to 2 ulp; NaN stays NaN.
inline Vf tanh(Vf x) {
  const Vf one = set1(1.0f);
  const Vf y = min(max(x + x, set1(-20.0f)), set1(20.0f));
  Vf n;
  const Vf p = exp_minus_1_of_rest(y, &n);
  const Vf power = scale_by_power_of_2(one, n);
  const Vf e = fma(power, p, power - one);
  // with x as the second operand, a NaN of x stays
  const Vf bounded = min(one, max(set1(-1.0f), x));
  return e / (e + set1(2.0f)) + (bounded - bounded);
}

inline Vf activate(Activation activation, Vf x) {
  return activation == Activation::kTanh ? tanh(x) : x;
}

inline Vf swiglu(Vf gate, Vf up) {
  return gate / (set1(1.0f) + exp(set1(0.0f) - gate)) * up;
}

inline void store_columns(float* out, Vf value, int64_t columns) {
  if (columns >= kLanes) {
    store(out, value);
  } else if (columns > 0) {
    store_n(out, value, static_cast<int>(columns));
  }
}

// Neighbouring columns of the bias; those past the last one are 0.
inline Vf load_columns(const float* bias, int64_t columns) {
  return columns >= kLanes ? load(bias) : load_n(bias, columns < 0 ? 0 : static_cast<int>(columns));
}

// Writes the sums of one row and one panel, 32 of them, to the row's columns of the output.
inline void finish_row(const Gemm& gemm, const float* sums, int64_t r, int64_t panel) {
  const Vf scale = set1(gemm.scale);
  const bool pairs = gemm.activation == Activation::kSwiglu;
  const int64_t width = pairs ? kGateUpColumns : kPanelRows;
  const int64_t first = panel * width;
  float* out = gemm.out + r * gemm.columns + first;
  for (int64_t j = 0; j < width && first + j < gemm.columns; j += kLanes) {
    Vf value = load(sums + j) * scale;
    if (gemm.bias != nullptr)
      value = value + load_columns(gemm.bias + first + j, gemm.columns - first - j);
    const Vf result = pairs ? swiglu(value, load(sums + kGateUpColumns + j) * scale)
                            : activate(gemm.activation, value);
    store_columns(out + j, result, gemm.columns - first - j);
  }
}

// kRows rows from r on times `panels` panels, which stand one behind the other from w on.
// `prefetch` goes with the first panel; that of the others is as much further.
template <int kRows, int kVectors, bool kStream, class X, class Weight>
inline void multiply_panels(const Gemm& gemm, const X& x, int64_t r, const Weight* w, int64_t panel,
                            int64_t panels, Prefetch prefetch) {
  constexpr int wide = kVectors > kPanelVectors ? kVectors : kPanelVectors;
  constexpr int at_once = wide / kPanelVectors;
  const int64_t bytes = panel_bytes(gemm.dtype, gemm.k),
                panel_stride = bytes / static_cast<int64_t>(sizeof(Weight));
  alignas(64) float tile[kRows * wide * kLanes];
  int64_t p = 0;
  for (; p + at_once <= panels; p += at_once) {
    for (int v = 0; v < wide; v += kVectors) {
      const Prefetch part = {prefetch.next + p * bytes + prefetch.bytes * v / wide,
                             prefetch.bytes * kVectors / wide};
      multiply<kRows, kVectors, kStream>(x, w + p * panel_stride + v * kLanes * kStep<Weight>,
                                         panel_stride, elements<Weight>(gemm.k), part,
                                         tile + v * kLanes, wide * kLanes);
    }
    for (int i = 0; i < kRows; i++) {
      for (int j = 0; j < at_once; j++)
        finish_row(gemm, tile + (i * at_once + j) * kPanelRows, r + i, panel + p + j);
    }
  }
  if constexpr (at_once > 1) {
    if (p < panels) {
      multiply_panels<kRows, kVectors / 2, kStream>(gemm, x, r, w + p * panel_stride, panel + p,
                                                    panels - p, prefetch);
    }
  }
}

// Part `part` of `parts` of [0, n), as even as can be.
inline int64_t split(int64_t n, int64_t part, int64_t parts) {
  return n * part / parts;
}

// Rows [r, r + rows) as [k][rows].
inline void pack_rows(const Gemm& gemm, int64_t r, int64_t rows, float* block) {
  constexpr int64_t kLine = 16;  // floats of one cache line
  const float* row[kTileRows];
  for (int64_t i = 0; i < rows; i++) row[i] = gemm.row(r + i);
  for (int64_t k = 0; k < gemm.k; k += kLine) {
    const int64_t end = k + kLine < gemm.k ? k + kLine : gemm.k;
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = k; j < end; j++) block[j * rows + i] = row[i][j];
    }
  }
}

// The same as pairs, rounded; [k/2][rows].
inline void pack_rows(const Gemm& gemm, int64_t r, int64_t rows, Pair* block) {
  for (int64_t k = 0; k < gemm.k; k += kLanes) {
    const int count = static_cast<int>(k + kLanes < gemm.k ? kLanes : gemm.k - k);
    for (int64_t i = 0; i < rows; i++) {
      Pair pairs[kLanes / 2] = {};
      store_bf16_n(reinterpret_cast<uint16_t*>(pairs), load_n(gemm.row(r + i) + k, count), count);
      for (int64_t j = 0; j < (count + 1) / 2; j++) block[(k / 2 + j) * rows + i] = pairs[j];
    }
  }
}

// Vectors of a few-rows tile: as many as leave registers for the weights and x, at most two panels.
constexpr int few_rows_vectors(int rows) {
  int vectors = 1;
  while (vectors < 2 * kPanelVectors && 2 * vectors * (rows + 1) + 2 <= kRegisters) vectors *= 2;
  return vectors;
}

template <int kRows>
inline RowsInPlace<kRows> few_rows_of(const Gemm& gemm, int64_t r, float*) {
  RowsInPlace<kRows> x;
  for (int i = 0; i < kRows; i++) x.row[i] = gemm.row(r + i);
  return x;
}
template <int kRows>
inline RowsPacked<kRows, Pair> few_rows_of(const Gemm& gemm, int64_t r, Pair* scratch) {
  pack_rows(gemm, r, kRows, scratch);
  return {scratch};
}

template <int kRows, class Weight>
inline void few_rows(const Gemm& gemm, int64_t r, int64_t rows, const Weight* w, int64_t panel,
                     int64_t panels, typename Factor<Weight>::Type* scratch) {
  if (rows == kRows) {
    const auto x = few_rows_of<kRows>(gemm, r, scratch);
    // A panel that takes several passes comes from memory in the first only: so each pass
    // prefetches its share of the next panel.
    constexpr int vectors = few_rows_vectors(kRows);
    const int64_t bytes = panel_bytes(gemm.dtype, gemm.k);
    const Prefetch prefetch = {reinterpret_cast<const char*>(w) + bytes, bytes};
    multiply_panels<kRows, vectors, vectors >= kPanelVectors>(gemm, x, r, w, panel, panels,
                                                              prefetch);
  } else if constexpr (kRows > 1) {
    few_rows<kRows - 1>(gemm, r, rows, w, panel, panels, scratch);
  }
}

template <int kRows, class Weight>
inline void packed_block(const Gemm& gemm, const typename Factor<Weight>::Type* block, int64_t r,
                         int64_t rows, const Weight* w, int64_t panel, Prefetch prefetch) {
  if (rows == kRows) {
    const RowsPacked<kRows, typename Factor<Weight>::Type> x = {block};
    multiply_panels<kRows, kTileVectors, false>(gemm, x, r, w, panel, 1, prefetch);
  } else if constexpr (kRows > kTileRows / 2) {  // blocks are as even as can be: none is smaller
    packed_block<kRows - 1>(gemm, block, r, rows, w, panel, prefetch);
  }
}

template <class Weight>
inline void many_rows(const Gemm& gemm, int64_t r, int64_t rows, const Weight* w, int64_t panel,
                      int64_t panels, typename Factor<Weight>::Type* packed) {
  const int64_t blocks = (rows + kTileRows - 1) / kTileRows, length = elements<Weight>(gemm.k);
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t first = split(rows, b, blocks);
    pack_rows(gemm, r + first, split(rows, b + 1, blocks) - first, packed + first * length);
  }
  const int64_t bytes = panel_bytes(gemm.dtype, gemm.k);
  for (int64_t p = 0; p < panels; p++) {
    const char* here = reinterpret_cast<const char*>(w) + p * bytes;
    for (int64_t b = 0; b < blocks; b++) {
      const int64_t first = split(rows, b, blocks);
      const Prefetch prefetch = {here + bytes + bytes * b / blocks, bytes / blocks};
      packed_block<kTileRows>(gemm, packed + first * length, r + first,
                              split(rows, b + 1, blocks) - first,
                              reinterpret_cast<const Weight*>(here), panel + p, prefetch);
    }
  }
}

// The cut of one group's rows and panels into tasks: chunks of rows, and ranges of panels within
// each.
struct Cut {
  int64_t rows, chunks, ranges;
  const Guided* panels;
  int64_t tasks() const { return chunks * ranges; }
};

inline Cut cut_rows(int64_t rows, int64_t chunk_rows, const Guided& panels) {
  return {rows, (rows + chunk_rows - 1) / chunk_rows, panels.ranges(), &panels};
}

// The cut on the few-rows path. While at least as many groups follow as there are threads, a thread
// reads one whole group as one stretch of memory. Every stretch begins slowly, so few are better.
inline Cut cut_few_rows(const Gemm& gemm, int64_t group, int64_t rows, int64_t chunk_rows) {
  if (group >= gemm.shared_from) return cut_rows(rows, chunk_rows, gemm.few);
  return cut_rows(rows, chunk_rows, gemm.whole);
}

// Of a pass over the rows [first, last).
inline void share_few_rows(Gemm& gemm, int64_t threads, int64_t first, int64_t last) {
  gemm.few = streamed_ranges(gemm.panels, threads, panel_bytes(gemm.dtype, gemm.k));
  gemm.whole = even_ranges(gemm.panels, threads, gemm.panels);
  gemm.shared_from = first_shared_group(gemm.offsets, gemm.groups, first, last, threads);
}

inline Cut cut_group(const Gemm& gemm, int64_t group) {
  const int64_t rows = gemm.offsets[group + 1] - gemm.offsets[group];
  if (rows <= kFewRows || gemm.chunk_rows <= kFewRows)
    return cut_few_rows(gemm, group, rows, gemm.chunk_rows);
  return cut_rows(rows, gemm.chunk_rows, gemm.many);
}

// One task: rows [r, r + rows), all of one group, times `panels` panels from w on. The first of
// them is the group's number `panel`.
struct GemmTask {
  int64_t r, rows, panel, panels;
  const char* w;
};

inline GemmTask find_task(const Gemm& gemm, int64_t task) {
  int64_t group = 0;
  Cut cut;
  for (;; group++) {
    if (gemm.offsets[group + 1] == gemm.offsets[group]) continue;
    cut = cut_group(gemm, group);
    if (task < cut.tasks()) break;
    task -= cut.tasks();
  }
  const int64_t chunk = task / cut.ranges, first = split(cut.rows, chunk, cut.chunks);
  GemmTask found;
  found.r = gemm.offsets[group] + first;
  found.rows = split(cut.rows, chunk + 1, cut.chunks) - first;
  cut.panels->range(task % cut.ranges, &found.panel, &found.panels);
  found.w = gemm.weight + (group * gemm.panels + found.panel) * panel_bytes(gemm.dtype, gemm.k);
  return found;
}

template <class Weight>
inline void gemm_task(const Gemm& gemm, const GemmTask& task, std::byte* scratch) {
  const Weight* w = reinterpret_cast<const Weight*>(task.w);
  auto* packed = reinterpret_cast<typename Factor<Weight>::Type*>(scratch);
  if (task.rows <= kFewRows) {
    few_rows<kFewRows>(gemm, task.r, task.rows, w, task.panel, task.panels, packed);
  } else {
    many_rows(gemm, task.r, task.rows, w, task.panel, task.panels, packed);
  }
}

inline int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

// Panels times the chunks of rows that meet them.
inline int64_t chunk_panels(const Gemm& gemm) {
  int64_t panels = 0;
  for (int64_t g = 0; g < gemm.groups; g++) {
    panels += (gemm.offsets[g + 1] - gemm.offsets[g] + gemm.chunk_rows - 1) / gemm.chunk_rows *
              gemm.panels;
  }
  return panels;
}

inline int64_t task_count(const Gemm& gemm) {
  int64_t tasks = 0;
  for (int64_t g = 0; g < gemm.groups; g++) tasks += cut_group(gemm, g).tasks();
  return tasks;
}

// Fills in the derived fields and does the work. Weight: float; uint16_t of bf16 weights; Pair of
// bf16 weights with x rounded.
template <class Weight>
void run_gemm(const GemmArgs& args, ThreadPool& pool) {
  constexpr int64_t kInputBytes = sizeof(typename Factor<Weight>::Type) / kElementK<Weight>;
  Gemm gemm = {args};
  const int64_t threads = pool.threads(), rows = gemm.offsets[gemm.groups] - gemm.offsets[0];
  // Large chunks read the weights fewer times, small ones give every thread work.
  const int64_t packable = kPackedBytes / (gemm.k > 0 ? gemm.k * kInputBytes : 4);
  const int64_t fair = clamp((rows + threads - 1) / threads, 8 * kTileRows, kPackedBytes);
  gemm.chunk_rows = packable < kTileRows ? kFewRows : fair < packable ? fair : packable;
  share_few_rows(gemm, threads, gemm.offsets[0], gemm.offsets[gemm.groups]);
  // Packing a chunk costs as much as multiplying it by one panel, so a task takes 16 panels or more
  // where threads allow.
  const int64_t panels = chunk_panels(gemm);
  gemm.many = even_ranges(gemm.panels, threads,
                          clamp(panels / (threads * 8), clamp(panels / threads, 1, 16), 64));
  const int64_t tasks = task_count(gemm);
  pool.parallel_for(tasks, [&gemm, &pool](int64_t task, int thread) {
    const GemmTask found = find_task(gemm, task);
    gemm_task<Weight>(gemm, found, pool.scratch(thread));
  });
}
