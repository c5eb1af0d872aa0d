// Few rows per group on tensor cores, sm_80 and up: bound by reading the weights. These are the
// 16-row operand of mma.m16n8k16, and rows of x the 8-row one. So 8 rows take one product without
// padding, and 64 take eight. With swiglu the 16 are 8 gate rows and the up rows of the same
// columns, which meet in one thread.
//
// A warp has 16 stored rows. Each lane copies the bytes that it multiplies, 64 bytes of a row by
// four lanes, and waits for no other. Five such lines are on their way: 5 KB a warp, 40 KB a block.
// The k of a lane's bytes need not be the instruction's: x is read in the same order. x is rounded
// to bf16 once a block, in panels of 32 KB, which the block's warps share.
//
// If a weight gives too few tiles for the device, several warps share 16 rows, line by line
// (splits). Their sums are added in a fixed order. A row's result depends neither on the rows
// beside it nor on their number. It depends only on the shape of the weight and on the device.
// SASS sm_80,sm_86,sm_89 multiply_few_rows: HMMA LDGSTS !LDL !STL registers<=128 no-spills
// SASS sm_90a,sm_100,sm_120 multiply_few_rows: HMMA LDGSTS !LDL !STL registers<=128 no-spills early-LDGSTS<=4
#include "cuda/kernels/grouped_gemm/quantised.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what sm_75 does not use would be warned about.
namespace few_rows {

constexpr int kThreads = 256, kWarps = kThreads / 32, kStages = 6;
constexpr int kWeightRows = 16;         // of a warp
constexpr int kLineBytes = 64;          // of a stored row, in a stage
constexpr int kPanelBytes = 32 * 1024;  // of x
constexpr int kMostPasses = 65535;      // of a grid
constexpr int kStep = 256;              // k that the warps which share rows take at once, at most

template <class Weight>
constexpr int kPerTwoBytes = std::is_same_v<Weight, Int4Weight> ? 4
                             : kIsQuantised<Weight>             ? 2
                                                                : 1;

template <class WeightType, class XType>
struct Config {
  using Weight = WeightType;
  using X = XType;
  static constexpr bool kQuantised = kIsQuantised<Weight>;
  static constexpr int kLineDepth = kLineBytes * kPerTwoBytes<Weight> / 2;
  static constexpr int kParts = kLineDepth / 32;          // two products each
  static constexpr int kBlocks = 2;                       // per multiprocessor
  static constexpr int kPassRows = kQuantised ? 32 : 64;  // of a group, at once; as registers allow
  static constexpr int kMostSplits = kStep / kLineDepth < kWarps ? kStep / kLineDepth : kWarps;
};

// A lane's part of a line: rows lane / 4 and lane / 4 + 8 of the warp.
template <class C>
struct Smem {
  uint4 units[kStages][2][kThreads];
  uint4 x[kPanelBytes / 16];
  int source[C::kPassRows];
  uint32_t scales[C::kQuantised ? kStages : 1][2][C::kQuantised ? kThreads : 1];
};
// 164 KB of a multiprocessor (8.0, 8.7), and 1 KB that the system takes of a block.
static_assert(2 * (sizeof(Smem<Config<simt::bf16, float>>) + 1024) <= 164 * 1024,
              "two blocks of bf16 weights fit");

// The place of unit `unit` (16 bytes) of a row of the panel. Eight lanes read two rows at four
// units, or sixteen four rows at two. They meet each bank once.
template <int kUnits>
SIMT_DEVICE int place(int row, int unit) {
  return row * kUnits + (unit ^ (row % 2 * 4 + row / 2 % 2 * 2));
}

// The two stored rows of a lane. Past the last one it is repeated, and nothing written.
template <class C>
struct Lines {
  const unsigned char* row;
  const uint32_t* scale;
  int second, row_bytes, count, scale_rows;  // second: rows from the first to it, at most 8

  SIMT_DEVICE Lines(const Gemm& g, int group, int first) {
    first = min(first + static_cast<int>(threadIdx.x) % 32 / 4, g.weight_rows - 1);
    second = min(8, g.weight_rows - 1 - first);
    if constexpr (C::kQuantised) {
      const QuantisedGroup<typename C::Weight> w(g.weight, group, g.weight_rows, g.pitch);
      row_bytes = w.row_bytes, scale_rows = w.scale_rows;
      row = w.values + static_cast<int64_t>(first) * row_bytes;
      scale = w.scales + first;
    } else {
      row_bytes = g.pitch * 2, scale_rows = 0, scale = nullptr;
      row = static_cast<const unsigned char*>(g.weight) +
            (static_cast<int64_t>(group) * g.weight_rows + first) * row_bytes;
    }
    row += threadIdx.x % 4 * 16;
    count = (row_bytes + kLineBytes - 1) / kLineBytes;
  }

  SIMT_DEVICE void copy(Smem<C>& s, int stage, int line) const {
    if (line < count) {
      const int tid = static_cast<int>(threadIdx.x), at = line * kLineBytes,
                bytes = at + tid % 4 * 16 < row_bytes ? 16 : 0;
      const unsigned char* from = row + (bytes > 0 ? at : 0);
      simt::cp_async_zfill<16>(&s.units[stage][0][tid], from, bytes);
      simt::cp_async_zfill<16>(&s.units[stage][1][tid], from + second * row_bytes, bytes);
      if constexpr (C::kQuantised) {
        const int block = line * C::kLineDepth / static_cast<int>(kQuantBlock);
        const uint32_t* scales = scale + static_cast<int64_t>(block) * scale_rows;
        simt::cp_async<4>(&s.scales[stage][0][tid], scales);
        simt::cp_async<4>(&s.scales[stage][1][tid], scales + second);
      }
    }
    simt::cp_async_commit();  // an empty group past the end, so that groups count lines
  }
  SIMT_DEVICE void copy_first(Smem<C>& s, int split, int splits) const {
#pragma unroll 1
    for (int i = 0; i < kStages - 1; i++) copy(s, i, split + i * splits);
  }
};

// Elements k .. k + 7 of a row of x as bf16; those past its end are 0. whole: it is float4s.
SIMT_DEVICE uint4 read_unit(const simt::bf16* row, int k, int end, bool) {
  return k < end ? *reinterpret_cast<const uint4*>(row + k) : make_uint4(0, 0, 0, 0);
}
SIMT_DEVICE uint4 read_unit(const float* row, int k, int end, bool whole) {
  float v[8];
  if (whole) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
      const float4 four = k + i < end ? *reinterpret_cast<const float4*>(row + k + i)
                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = k + i < end ? row[k + i] : 0.0f;
  }
  return make_uint4(simt::pack_bf16(v[0], v[1]), simt::pack_bf16(v[2], v[3]),
                    simt::pack_bf16(v[4], v[5]), simt::pack_bf16(v[6], v[7]));
}

// The panel of x from k0 on, up to `end`: s.source's rows. Those past `rows` are 0.
template <class C, int kTiles>
SIMT_DEVICE void load_x(const Gemm& g, Smem<C>& s, int rows, int k0, int end) {
  constexpr int kUnits = kPanelBytes / 16 / (8 * kTiles);
  const bool whole = g.has_units_of(4);
#pragma unroll kTiles == 8 ? 2 : 4
  for (int i = static_cast<int>(threadIdx.x); i < 8 * kTiles * kUnits; i += kThreads) {
    const int row = i / kUnits, unit = i % kUnits, k = k0 + unit * 8;
    if (k >= end) continue;
    const auto* from = g.x_row<typename C::X>(s.source[row]);
    s.x[place<kUnits>(row, unit)] =
        row < rows ? read_unit(from, k, g.k, whole) : make_uint4(0, 0, 0, 0);
  }
}

// Rows `row` .. row + 7 of the panel and 32 k from k on, as the second operand of two products. A
// lane has row lane / 4. bf16: the eight k from 8c on, c = lane % 4. Else the four from 4c on of
// either half.
template <class C, int kUnits>
SIMT_DEVICE void load_b(uint32_t (&b)[2][2], const uint4* x, int row, int k) {
  row += static_cast<int>(threadIdx.x) % 32 / 4;
  const int c = static_cast<int>(threadIdx.x) % 4;
  if constexpr (C::kQuantised) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4* unit = x + place<kUnits>(row, k / 8 + half * 2 + c / 2);
      const uint2 pairs = reinterpret_cast<const uint2*>(unit)[c % 2];
      b[half][0] = pairs.x, b[half][1] = pairs.y;
    }
  } else {
    const uint4 pairs = x[place<kUnits>(row, k / 8 + c)];
    b[0][0] = pairs.x, b[0][1] = pairs.y, b[1][0] = pairs.z, b[1][1] = pairs.w;
  }
}

// A line in registers.
template <class C>
struct Fragments {
  uint32_t words[2][4];  // of the lane's two rows
  uint32_t scales[2];

  SIMT_DEVICE void load(const Smem<C>& s, int stage) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint4 unit = s.units[stage][i][threadIdx.x];
      words[i][0] = unit.x, words[i][1] = unit.y, words[i][2] = unit.z, words[i][3] = unit.w;
      if constexpr (C::kQuantised) scales[i] = s.scales[stage][i][threadIdx.x];
    }
  }

  // The 32 k of part `part`, as the first operand of two products.
  SIMT_DEVICE void widen(uint32_t (&a)[2][4], int part) const {
    using W = typename C::Weight;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if constexpr (std::is_same_v<W, Int4Weight>) {
        const float m = W::multiplier(scales[i], part);
        const uint32_t multiplier = twice_bf16(m), minus = twice_bf16(-136.0f * m);
#pragma unroll
        for (int n = 0; n < 4; n++)
          a[n / 2][n % 2 * 2 + i] = int4_pair(words[i][part] >> (4 * n), multiplier, minus);
      } else {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          if constexpr (std::is_same_v<W, Int8Weight>) {
            const uint32_t word = words[i][part * 2 + half];
            a[half][i] = int8_pair(word);
            a[half][2 + i] = int8_pair(word >> 8);
          } else if constexpr (std::is_same_v<W, Float8Weight>) {
            const uint32_t word = words[i][part * 2 + half];
            a[half][i] = float8_pair(word, 0);
            a[half][2 + i] = float8_pair(word, 1);
          } else {
            a[half][i] = words[i][half * 2];
            a[half][2 + i] = words[i][half * 2 + 1];
          }
        }
      }
    }
  }
};

// Adds the products of a line, whose x begins at k of the panel.
template <class C, int kTiles>
SIMT_DEVICE void multiply_line(const Smem<C>& s, const Fragments<C>& line, int k,
                               float (&sum)[kTiles][4]) {
  constexpr int kUnits = kPanelBytes / 16 / (8 * kTiles);
  float part[C::kQuantised ? kTiles : 1][4] = {};
#pragma unroll
  for (int p = 0; p < C::kParts; p++) {
    uint32_t a[2][4];
    line.widen(a, p);
#pragma unroll
    for (int j = 0; j < kTiles; j++) {
      uint32_t b[2][2];
      load_b<C, kUnits>(b, s.x, j * 8, k + p * 32);
      float(&to)[4] = C::kQuantised ? part[C::kQuantised ? j : 0] : sum[j];
      simt::mma_bf16(to, a[0], b[0]);
      simt::mma_bf16(to, a[1], b[1]);
    }
  }
  if constexpr (C::kQuantised) {
    const float scale[2] = {C::Weight::scale(line.scales[0]), C::Weight::scale(line.scales[1])};
#pragma unroll
    for (int j = 0; j < kTiles; j++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sum[j][e] = fmaf(scale[e / 2], part[j][e], sum[j][e]);
    }
  }
}

// The rows from `row` on, up to 8 and `end`, by the stored rows from `first` on. A lane has rows
// 2c, 2c + 1 of stored row lane / 4, then of the one 8 further.
SIMT_DEVICE void write(const Gemm& g, int first, int row, int end, const float (&sum)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int r = row + lane % 4 * 2;
  int64_t at = static_cast<int64_t>(out_row(g, static_cast<int>(blockIdx.y), r)) * g.columns;
#pragma unroll
  for (int e = 0; e < 2; e++, at += static_cast<int64_t>(g.row_step) * g.columns) {
    if (r + e >= end) return;
    if (g.activation == Activation::kSwiglu) {
      const int column = first / 2 + lane / 4;
      if (column < g.columns) g.out.store(at + column, {finish_swiglu(g, sum[e], sum[2 + e])});
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int column = first + half * 8 + lane / 4;
        if (column < g.columns) g.out.store(at + column, {finish(g, column, sum[half * 2 + e])});
      }
    }
  }
}

// A warp's work: every splits-th line of the stored rows from `first` on.
struct Share {
  int first, split, splits;
};

// The sums of the rows from `row` on, kTiles times 8 at most, to s.x. The first lines are on their
// way.
template <class C, int kTiles>
SIMT_DEVICE void compute(const Gemm& g, Smem<C>& s, const Lines<C>& lines, const Share& share,
                         int row, int end) {
  constexpr int kPanel = kPanelBytes / 2 / (8 * kTiles);
  static_assert(kPanel % kStep == 0, "panels begin with the first of the warps that share rows");
  const int tid = static_cast<int>(threadIdx.x), depth = lines.count * C::kLineDepth;
  if (tid < 8 * kTiles)
    s.source[tid] = row + tid < end ? source_row(g, static_cast<int>(blockIdx.y), row + tid) : 0;
  float sum[kTiles][4] = {};
  int stage = 0;
  for (int k0 = 0; k0 < depth; k0 += kPanel) {
    __syncthreads();  // the panel before is read
    load_x<C, kTiles>(g, s, end - row, k0, depth);
    __syncthreads();
    const int last = min(lines.count, (k0 + kPanel) / C::kLineDepth);
    for (int line = k0 / C::kLineDepth + share.split; line < last; line += share.splits) {
      simt::cp_async_wait<kStages - 2>();
      Fragments<C> fragments;
      fragments.load(s, stage);
      lines.copy(s, stage == 0 ? kStages - 1 : stage - 1, line + (kStages - 1) * share.splits);
      multiply_line<C, kTiles>(s, fragments, line * C::kLineDepth - k0, sum);
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
  }
  static_assert(kTiles * kThreads * 16 <= kPanelBytes, "the sums take the place of x");
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kTiles; j++) {
    reinterpret_cast<float4*>(s.x)[j * kThreads + tid] =
        make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
  }
}

// The same by as few tiles as hold the rows.
template <class C, int kTiles = 1>
SIMT_DEVICE void compute_rows(const Gemm& g, Smem<C>& s, const Lines<C>& lines, const Share& share,
                              int row, int end) {
  if constexpr (kTiles * 8 < C::kPassRows) {
    if (end - row > kTiles * 8) return compute_rows<C, 2 * kTiles>(g, s, lines, share, row, end);
  }
  compute<C, kTiles>(g, s, lines, share, row, end);
}

// Adds the sums of the warps that share stored rows, and writes them. These warps take turns.
template <class C>
SIMT_DEVICE void add_and_write(const Gemm& g, const Smem<C>& s, const Share& share, int row,
                               int end) {
  __syncthreads();
#pragma unroll 1
  for (int j = share.split; row + j * 8 < end; j += share.splits) {
    const float4* sums = reinterpret_cast<const float4*>(s.x) + j * kThreads +
                         static_cast<int>(threadIdx.x) - share.split * 32;
    float4 total = sums[0];
    for (int i = 1; i < share.splits; i++) {
      const float4 v = sums[i * 32];
      total.x += v.x, total.y += v.y, total.z += v.z, total.w += v.w;
    }
    write(g, share.first, row + j * 8, end, {total.x, total.y, total.z, total.w});
  }
}

// early: the first lines are asked for before the kernel ahead has ended.
template <class C>
__global__ void __launch_bounds__(kThreads, C::kBlocks)
    multiply_few_rows(const Gemm g, int splits, bool early) {
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    auto& s = *simt::smem<Smem<C>>();
    const int warp = static_cast<int>(threadIdx.x) / 32,
              tile = static_cast<int>(blockIdx.x) * (kWarps / splits) + warp / splits;
    const Share share = {tile * kWeightRows, warp % splits, splits};
    if (early)
      Lines<C>(g, static_cast<int>(blockIdx.y), share.first).copy_first(s, share.split, splits);
    await_inputs();
    const int group = occupied_group(g, static_cast<int>(blockIdx.y));
    if (group < 0) return;
    const Lines<C> lines(g, group, share.first);
    if (!early) lines.copy_first(s, share.split, splits);
    const int pass = static_cast<int>(blockIdx.z) * C::kPassRows, end = end_row(g, group),
              first = first_row(g, group) + pass;
    for (int row = first; row < end; row += static_cast<int>(gridDim.z) * C::kPassRows) {
      if (row > first) lines.copy_first(s, share.split, splits);
      const int last = min(end, row + C::kPassRows);
      compute_rows<C>(g, s, lines, share, row, last);
      add_and_write(g, s, share, row, last);
    }
  }
}

template <class Weight, class X>
void launch(const Gemm& g, CudaQueue& queue) {
  using C = Config<Weight, X>;
  const int groups = g.groups < g.rows ? g.groups : g.rows;
  const auto tiles = [&](int splits) {
    const int rows = kWarps / splits * kWeightRows;
    return (g.weight_rows + rows - 1) / rows;
  };
  // Only the shape of the weight decides, so that a row's sums are split alike in every batch. Of
  // many groups four are taken to have rows.
  const int busy = g.groups < 4 ? g.groups : 4;
  int splits = 1;
  while (splits < C::kMostSplits && tiles(splits) * busy < queue.multiprocessors()) splits *= 2;
  // Without offsets the rows of a group are known, and each pass has blocks of its own.
  const int passes = g.offsets == nullptr ? (g.group_rows + C::kPassRows - 1) / C::kPassRows : 1;
  const dim3 grid(static_cast<unsigned>(tiles(splits)), static_cast<unsigned>(groups),
                  static_cast<unsigned>(passes < kMostPasses ? passes : kMostPasses));
  const bool early = g.offsets == nullptr && queue.prefetches();
  queue.launch(multiply_few_rows<C>, {grid, dim3(kThreads), sizeof(Smem<C>)}, g, splits, early);
}

template <class Weight>
void launch_for_x(const Gemm& g, CudaQueue& queue) {
  if (g.x_dtype == DType::kBf16) return launch<Weight, simt::bf16>(g, queue);
  launch<Weight, float>(g, queue);
}

}  // namespace few_rows

void gemm_few_rows(const Gemm& g, CudaQueue& queue) {
  if (g.dtype == DType::kI8) return few_rows::launch_for_x<Int8Weight>(g, queue);
  if (g.dtype == DType::kI4) return few_rows::launch_for_x<Int4Weight>(g, queue);
  if (g.dtype == DType::kF8) return few_rows::launch_for_x<Float8Weight>(g, queue);
  few_rows::launch_for_x<simt::bf16>(g, queue);
}

}  // namespace moepp::cuda
