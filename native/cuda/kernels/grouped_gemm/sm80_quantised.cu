// int8, int4 and float8 weights on tensor cores by mma.sync, sm_80 and up. The weights travel as
// they are stored and become bf16 in registers. These are the integers of a block of 128 k, which
// bf16 holds exactly (int4 times its multiplier), or its e4m3 numbers. Their products with bf16
// activations are summed by block. Each block's sums are then scaled and added in f32: no weight is
// rounded.
//
// x comes as in sm80.cu, 32 k per stage. Weights come in lines of 64 bytes, 64 or 128 k, each read
// once from shared memory, 16 bytes per thread. Persistent blocks walk the tiles.
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 multiply_quantised_mma: HMMA LDGSTS !LDL !STL no-spills
#include "cuda/kernels/grouped_gemm/mma_tile.cuh"
#include "cuda/kernels/grouped_gemm/quantised.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what sm_75 does not use would be warned about.
namespace quantised {

constexpr int kSteps = 4;   // of kDepth in a block of 128 k
constexpr int kStages = 4;  // of x: step q of a block is in stage q
constexpr int kLineBytes = 64;

template <class WeightType, class XType, bool AlignedX>
struct Config {
  using Weight = WeightType;
  using X = XType;
  static constexpr int kRows = 128, kColumns = 128, kWarpsDown = 2, kWarpsAcross = 4,
                       kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr bool kAligned = AlignedX;  // rows of x are whole units
  static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;  // fragments of a warp
  // of a block; of a line
  static constexpr int kLines = Weight::kBlockBytes / kLineBytes, kLineSteps = kSteps / kLines;
  static constexpr int kLineStages = 2 * kLines;  // of two blocks
  static_assert(kAcross % 2 == 0, "gate and up are neighbours");

  // A row of a stage is 8 units of four f32, or 4 of eight bf16. Fragments are read without bank
  // conflicts: by eight threads, two rows at four units; or by sixteen, four rows at two.
  static SIMT_DEVICE int place(int row, int unit) {
    return sizeof(X) == 4 ? row * 8 + (unit ^ (row % 2 * 4)) : row * 4 + (unit ^ (row / 2 % 2 * 2));
  }
};

template <class C>
struct Smem {
  alignas(128) typename C::X x[kStages][C::kRows * kDepth];
  alignas(128) unsigned char lines[C::kLineStages][C::kColumns * kLineBytes];
  alignas(16) uint32_t scales[2][C::kColumns];  // of a block, and the next
  int source[C::kRows];                         // the row of x, or -1
};

template <class C>
using Group = QuantisedGroup<typename C::Weight>;

template <class C>
SIMT_DEVICE void copy_line(const Gemm& g, const Group<C>& w, const Tile& tile, Smem<C>& s,
                           int line) {
  constexpr int kUnits = kLineBytes / 16, kStep = C::kThreads / kUnits;
  const int unit = static_cast<int>(threadIdx.x) % kUnits;
#pragma unroll
  for (int i = 0; i < C::kColumns; i += kStep) {
    const int row = i + static_cast<int>(threadIdx.x) / kUnits;
    const bool there = tile.column + row < g.weight_rows;
    const int64_t at =
        static_cast<int64_t>(tile.column + row) * w.row_bytes + line * kLineBytes + unit * 16;
    simt::cp_async_zfill<16>(s.lines[line % C::kLineStages] + row * kLineBytes + unit * 16,
                             w.values + (there ? at : 0), there ? 16 : 0);
  }
}

template <class C>
SIMT_DEVICE void copy_scales(const Group<C>& w, const Tile& tile, Smem<C>& s, int block) {
  const int row = static_cast<int>(threadIdx.x) * 4;
  if (row >= C::kColumns) return;
  const bool there = tile.column + row < w.scale_rows;
  const int64_t at = static_cast<int64_t>(block) * w.scale_rows + tile.column + row;
  simt::cp_async_zfill<16>(s.scales[block % 2] + row, w.scales + (there ? at : 0), there ? 16 : 0);
}

// A thread's part of the weight: the unit of its line, of one row of each fragment; for int4 also
// the rows' scale words.
template <class C>
struct Fragments {
  uint32_t line[C::kAcross][4], scales[C::kAcross];

  SIMT_DEVICE void load_line(const unsigned char* lines, int column) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int j = 0; j < C::kAcross; j++) {
      const auto* row =
          reinterpret_cast<const uint4*>(lines + (column + j * 8 + lane / 4) * kLineBytes);
      const uint4 unit = row[lane % 4];
      line[j][0] = unit.x, line[j][1] = unit.y, line[j][2] = unit.z, line[j][3] = unit.w;
    }
  }
  SIMT_DEVICE void load_scales(const uint32_t* block, int column) {
#pragma unroll
    for (int j = 0; j < C::kAcross; j++)
      scales[j] = block[column + j * 8 + static_cast<int>(threadIdx.x) % 32 / 4];
  }
};

// Four elements of x as two pairs of bf16.
SIMT_DEVICE uint2 load_pairs(const float* p) {
  const float4 v = *reinterpret_cast<const float4*>(p);
  return make_uint2(simt::pack_bf16(v.x, v.y), simt::pack_bf16(v.z, v.w));
}
SIMT_DEVICE uint2 load_pairs(const simt::bf16* p) {
  return *reinterpret_cast<const uint2*>(p);
}

// a: rows row .. row + 15 of a stage, the 16 k from 16 half on, rounded to bf16. A thread has the
// four of these from 4 c on. They serve as the k that the instruction calls 2c, 2c + 1, 2c + 8, 2c
// + 9, in b likewise.
template <class C>
SIMT_DEVICE void load_a(uint32_t (&a)[4], const typename C::X* stage, int row, int half) {
  constexpr int kWide = 16 / sizeof(typename C::X);
  const int lane = static_cast<int>(threadIdx.x) % 32, k = half * 16 + lane % 4 * 4;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const uint2 pairs =
        load_pairs(stage + C::place(row + i * 8 + lane / 4, k / kWide) * kWide + k % kWide);
    a[i] = pairs.x;
    a[2 + i] = pairs.y;
  }
}

// b of both halves of step q.
template <class C>
SIMT_DEVICE void load_b(uint32_t (&b)[2][C::kAcross][2], const Fragments<C>& fragments, int q) {
  using W = typename C::Weight;
#pragma unroll
  for (int j = 0; j < C::kAcross; j++) {
    if constexpr (std::is_same_v<W, Int8Weight>) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint32_t word = fragments.line[j][q % 2 * 2 + half];
        b[half][j][0] = int8_pair(word);
        b[half][j][1] = int8_pair(word >> 8);
      }
    } else if constexpr (std::is_same_v<W, Float8Weight>) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint32_t word = fragments.line[j][q % 2 * 2 + half];
        b[half][j][0] = float8_pair(word, 0);
        b[half][j][1] = float8_pair(word, 1);
      }
    } else {
      const float m = W::multiplier(fragments.scales[j], q);
      const uint32_t multiplier = twice_bf16(m), minus = twice_bf16(-136.0f * m);
#pragma unroll
      for (int n = 0; n < 4; n++)
        b[n / 2][j][n % 2] = int4_pair(fragments.line[j][q] >> (4 * n), multiplier, minus);
    }
  }
}

template <class C>
SIMT_DEVICE void multiply(const typename C::X* stage, const Fragments<C>& fragments, int q, int row,
                          Sums<C>& sum) {
  uint32_t b[2][C::kAcross][2];
  load_b<C>(b, fragments, q);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    uint32_t a[C::kDown][4];
#pragma unroll
    for (int i = 0; i < C::kDown; i++) load_a<C>(a[i], stage, row + i * 16, half);
#pragma unroll
    for (int i = 0; i < C::kDown; i++) {
#pragma unroll
      for (int j = 0; j < C::kAcross; j++) simt::mma_bf16(sum[i][j], a[i], b[half][j]);
    }
  }
}

// Adds a block's sums, scaled.
template <class C>
SIMT_DEVICE void add_scaled(const uint32_t* scales, int column, const Sums<C>& part, Sums<C>& sum) {
  using W = typename C::Weight;
#pragma unroll
  for (int j = 0; j < C::kAcross; j++) {
    const uint2 two = *reinterpret_cast<const uint2*>(scales + column + j * 8 +
                                                      static_cast<int>(threadIdx.x) % 4 * 2);
    const float scale[2] = {W::scale(two.x), W::scale(two.y)};
#pragma unroll
    for (int i = 0; i < C::kDown; i++) {
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = fmaf(scale[e % 2], part[i][j][e], sum[i][j][e]);
    }
  }
}

template <class C>
SIMT_DEVICE void compute_tile(const Gemm& g, const Tile& tile, Smem<C>& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32, blocks = g.pitch / (kSteps * kDepth);
  const int row = warp / C::kWarpsAcross * C::kWarpRows,
            column = warp % C::kWarpsAcross * C::kWarpColumns;
  find_sources<C>(g, tile, s.source);
  const Group<C> w(g.weight, tile.group, g.weight_rows, g.pitch);
  // Step q of block b: x, the line that begins there, and with the first one the block's scales.
  const auto fill = [&](int b, int q) {
    if (b < blocks) {
      copy_x<C>(g, s.source, s.x[q], (b * kSteps + q) * kDepth);
      if (q % C::kLineSteps == 0) copy_line<C>(g, w, tile, s, b * C::kLines + q / C::kLineSteps);
      if (q == 0) copy_scales<C>(w, tile, s, b);
    }
    simt::cp_async_commit();  // an empty group past the end, so that groups count steps
  };
  Sums<C> sum = {};
#pragma unroll
  for (int q = 0; q < kStages - 1; q++) fill(0, q);
  for (int b = 0; b < blocks; b++) {
    Sums<C> part = {};
    Fragments<C> fragments;
#pragma unroll
    for (int q = 0; q < kSteps; q++) {
      simt::cp_async_wait<kStages - 2>();
      __syncthreads();  // this step's stage is there for all, and all have read the stage that is
                        // filled next
      fill(b + (q + kStages - 1) / kSteps, (q + kStages - 1) % kSteps);
      if (q == 0) fragments.load_scales(s.scales[b % 2], column);
      if (q % C::kLineSteps == 0) {
        fragments.load_line(s.lines[(b * C::kLines + q / C::kLineSteps) % C::kLineStages], column);
      }
      multiply<C>(s.x[q], fragments, q, row, part);
    }
    add_scaled<C>(s.scales[b % 2], column, part, sum);
  }
  write_sums<C>(g, tile, row, column, sum);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) multiply_quantised_mma(const Gemm g) {
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    await_inputs();
    auto& s = *simt::smem<Smem<C>>();
    for_each_tile<C>(g, [&](const Tile& tile) { compute_tile<C>(g, tile, s); });
  }
}

template <class C>
void launch(const Gemm& g, CudaQueue& queue) {
  queue.launch(multiply_quantised_mma<C>, persistent<C>(g, queue, 1, sizeof(Smem<C>)), g);
}

// Two sets of sums leave room for one block of 8 warps, whose 98 KB fit every chip.
template <class Weight>
void launch_for_x(const Gemm& g, CudaQueue& queue) {
  if (g.x_dtype == DType::kBf16) return launch<Config<Weight, simt::bf16, true>>(g, queue);
  if (g.has_units_of(4)) return launch<Config<Weight, float, true>>(g, queue);
  launch<Config<Weight, float, false>>(g, queue);
}

}  // namespace quantised

void gemm_sm80_quantised(const Gemm& g, CudaQueue& queue) {
  if (g.dtype == DType::kI8) return quantised::launch_for_x<Int8Weight>(g, queue);
  if (g.dtype == DType::kF8) return quantised::launch_for_x<Float8Weight>(g, queue);
  quantised::launch_for_x<Int4Weight>(g, queue);
}

}  // namespace moepp::cuda
