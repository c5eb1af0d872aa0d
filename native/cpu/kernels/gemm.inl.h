// Rows times weight panels (panels.h), the work of linear and grouped_gemm (ops/grouped_gemm.h).
// Of each group of rows, with f32 weights:
//
//   for (each panel of 32 outputs)
//     for (each row) {
//       for (sums = 0, k = 0; k < inputs; k++)
//         for (lane = 0; lane < 32; lane++)
//           sums[lane] = fma(x[row][k], panel[k][lane], sums[lane]);
//       out[row][panel] = finish(scale * sums);  // bias, tanh or swiglu
//     }
//
// It is cut into tasks for the threads (gemm_tasks.inl.h), and these into tiles whose sums stay in
// registers over all k (gemm_tile.inl.h).
//
// Every element of the output is one chain of f32 fma over k = 0, 1, 2 .... The number of rows, the
// tile, the thread and the path do not matter. So a token's row has the same bits in prefill, in
// decode and in any batch. bf16 weights are widened exactly, in registers: one shift or mask per
// vector, which hides behind the fma. The sets avx512bf16 and neonbf16 round x to bf16 instead,
// where an op lets them. There the chain is over pairs of k, two products each.
//
// Two paths:
//   decode   up to kDecodeRows rows of a group: the weights are streamed once, straight from
//            memory; x is read in place, or rounded first
//   prefill  x is packed into blocks of rows, [k][rows of the block], so that a tile reads it as
//            one stream; each panel then multiplies all blocks while it is in L2, and the next
//            panel is prefetched meanwhile

#include "gemm_tile.inl.h"
#include "panel_ranges.inl.h"

// Bytes of x that the prefill path packs at a time.
constexpr int64_t kPackedBytes = static_cast<int64_t>(kScratchBytes);
static_assert(kMostRoundedInputs * 2 * kTileRows <= kPackedBytes, "rounded rows of a tile fit");

struct Gemm : GemmArgs {
  // Derived once per call.
  int64_t chunk_rows = 0;                 // rows that one task takes at most
  PanelRanges decode = {}, prefill = {};  // panels that one task takes on either path
  // On the decode path, of groups before `shared_from` one thread takes all panels. 0: all groups
  // are shared.
  PanelRanges whole = {};
  int64_t shared_from = 0;

  const float* row(int64_t r) const {
    return x + (order != nullptr ? order[r] / picks_per_row : place(r)) * (x_stride ? x_stride : k);
  }
  float* out_row(int64_t r) const { return out + place(r) * columns; }

 private:
  int64_t place(int64_t r) const {
    if (heads == 0) return r;
    const auto tokens = static_cast<uint32_t>(offsets[1]), row = static_cast<uint32_t>(r);
    return static_cast<int64_t>(row % tokens) * heads + row / tokens;
  }
};

#include "gemm_finish.inl.h"
#include "gemm_tasks.inl.h"

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
      const Weight* from = w + p * panel_stride + v * kLanes * kStep<Weight>;
      float* to = tile + v * kLanes;
      const int64_t length = elements<Weight>(gemm.k);
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
      if constexpr (kElementK<Weight> == 2 && kRows > 1) {
        multiply_by_matrices<kRows, kVectors, kStream>(x, from, panel_stride, length, part, to,
                                                       wide * kLanes);
      } else
#endif
      {
        multiply<kRows, kVectors, kStream>(x, from, panel_stride, length, part, to, wide * kLanes);
      }
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

// Vectors of a decode tile: as many as leave registers for the weights and x, at most two panels.
constexpr int decode_vectors(int rows) {
  int vectors = 1;
  while (vectors < 2 * kPanelVectors && 2 * vectors * (rows + 1) + 2 <= kRegisters) vectors *= 2;
  return vectors;
}

template <int kRows>
inline RowsInPlace<kRows> decode_inputs(const Gemm& gemm, int64_t r, float*) {
  RowsInPlace<kRows> x;
  for (int i = 0; i < kRows; i++) x.row[i] = gemm.row(r + i);
  return x;
}
template <int kRows>
inline RowsPacked<kRows, Pair> decode_inputs(const Gemm& gemm, int64_t r, Pair* scratch) {
  pack_rows(gemm, r, kRows, scratch);
  return {scratch};
}

template <int kRows, class Weight>
inline void decode_rows(const Gemm& gemm, int64_t r, int64_t rows, const Weight* w, int64_t panel,
                        int64_t panels, typename Operand<Weight>::Type* scratch) {
  if (rows == kRows) {
    const auto x = decode_inputs<kRows>(gemm, r, scratch);
    // A panel that takes several passes comes from memory in the first only: so each pass
    // prefetches its share of the next panel.
    constexpr int vectors = decode_vectors(kRows);
    const int64_t bytes = panel_bytes(gemm.dtype, gemm.k);
    const Prefetch prefetch = {reinterpret_cast<const char*>(w) + bytes, bytes};
    multiply_panels<kRows, vectors, vectors >= kPanelVectors>(gemm, x, r, w, panel, panels,
                                                              prefetch);
  } else if constexpr (kRows > 1) {
    decode_rows<kRows - 1>(gemm, r, rows, w, panel, panels, scratch);
  }
}

template <int kRows, class Weight>
inline void packed_block(const Gemm& gemm, const typename Operand<Weight>::Type* block, int64_t r,
                         int64_t rows, const Weight* w, int64_t panel, Prefetch prefetch) {
  if (rows == kRows) {
    const RowsPacked<kRows, typename Operand<Weight>::Type> x = {block};
    multiply_panels<kRows, kTileVectors, false>(gemm, x, r, w, panel, 1, prefetch);
  } else if constexpr (kRows > kTileRows / 2) {  // blocks are as even as can be: none is smaller
    packed_block<kRows - 1>(gemm, block, r, rows, w, panel, prefetch);
  }
}

template <class Weight>
inline void prefill_rows(const Gemm& gemm, int64_t r, int64_t rows, const Weight* w, int64_t panel,
                         int64_t panels, typename Operand<Weight>::Type* packed) {
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

template <class Weight>
inline void gemm_task(const Gemm& gemm, const GemmTask& task, std::byte* scratch) {
  const Weight* w = reinterpret_cast<const Weight*>(task.w);
  auto* packed = reinterpret_cast<typename Operand<Weight>::Type*>(scratch);
  if (task.rows <= kDecodeRows) {
    decode_rows<kDecodeRows>(gemm, task.r, task.rows, w, task.panel, task.panels, packed);
  } else {
    prefill_rows(gemm, task.r, task.rows, w, task.panel, task.panels, packed);
  }
}

// Fills in the derived fields and does the work. Weight: float; uint16_t of bf16 weights; Pair of
// bf16 weights with x rounded.
template <class Weight>
void run_gemm(const GemmArgs& args, ThreadPool& pool) {
  constexpr int64_t kInputBytes = sizeof(typename Operand<Weight>::Type) / kElementK<Weight>;
  Gemm gemm = {args};
  const int64_t threads = pool.threads(), rows = gemm.offsets[gemm.groups] - gemm.offsets[0];
  // Large chunks read the weights fewer times, small ones give every thread work.
  const int64_t packable = kPackedBytes / (gemm.k > 0 ? gemm.k * kInputBytes : 4);
  const int64_t fair = clamp((rows + threads - 1) / threads, 8 * kTileRows, kPackedBytes);
  gemm.chunk_rows = packable < kTileRows ? kDecodeRows : fair < packable ? fair : packable;
  share_decode(gemm, threads, gemm.offsets[0], gemm.offsets[gemm.groups]);
  // Packing a chunk costs as much as multiplying it by one panel, so a task takes 16 panels or more
  // where threads allow.
  const int64_t panels = chunk_panels(gemm);
  gemm.prefill = even_ranges(gemm.panels, threads,
                             clamp(panels / (threads * 8), clamp(panels / threads, 1, 16), 64));
  const int64_t tasks = task_count(gemm);
  pool.parallel_for(tasks, [&gemm, &pool](int64_t task, int thread) {
    const GemmTask found = find_task(gemm, task);
    gemm_task<Weight>(gemm, found, pool.scratch(thread));
  });
}
