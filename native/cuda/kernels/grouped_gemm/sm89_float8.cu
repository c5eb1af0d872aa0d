// float8 weights times activations in e4m3, where tensor cores multiply that by mma.sync: sm_89 and
// sm_120. They do so at twice the rate of bf16. Two kernels. The first quantises x: 128 k of a row
// become e4m3 numbers and a scale, largest / 448. Rows are bf16 then, or are rounded to it first.
// The second multiplies numbers by numbers. It sums 128 k, and adds these sums to others in f32,
// times the scale of the weight's row and of x's.
//
// Lines of 64 k of x and of the weight travel in the same order (weight_layout.h). A thread reads
// 16 bytes of a row for two products. Persistent blocks walk the tiles.
// SASS sm_89,sm_120 multiply_float8: QMMA LDGSTS !LDL !STL no-spills
// SASS sm_89,sm_120 quantise_rows: LDG STG !LDL !STL registers<=48 no-spills
#include "cuda/kernels/grouped_gemm/mma_tile.cuh"
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/simt/float8.h"

namespace moepp::cuda {

namespace float8 {

constexpr int kBlock = static_cast<int>(kQuantBlock), kLineDepth = 64, kLineBytes = 64;
inline constexpr int kLines = kBlock / kLineDepth, kStages = 4;
constexpr int kScaleStages = 3;  // of blocks: two are under way while one is added
constexpr float kLargest = 448.0f;

// x as numbers [rows][pitch] in lines, and their scales [rows][pitch / 128].
struct Quantised {
  unsigned char* numbers;
  float* scales;
};

constexpr int kQuantiseThreads = 256;

// A warp takes 128 k of a row, a lane four of them. N: elements of one access.
template <class X, int N>
__global__ void __launch_bounds__(kQuantiseThreads)
    quantise_rows(const X* x, const int32_t* last, int rows, int k, int blocks, Quantised to) {
  SIMT_REQUIRES(SIMT_HAS_E4M3) {
    await_inputs();
    const int64_t units = static_cast<int64_t>(last != nullptr ? *last : rows) * blocks;
    constexpr int kWarps = kQuantiseThreads / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    for (int64_t unit = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; unit < units;
         unit += static_cast<int64_t>(gridDim.x) * kWarps) {
      const int64_t row = unit / blocks;
      const int block = static_cast<int>(unit % blocks), first = block * kBlock + lane * 4;
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < 4; i += N) {
        float part[N];
        if (first + i >= k) break;
        load_elements(x + row * k + first + i, part);
#pragma unroll
        for (int j = 0; j < N; j++) v[i + j] = simt::to_float(simt::to_bf16(part[j]));
      }
      int most = 0;  // as bits: those of NaN are above all others
#pragma unroll
      for (int i = 0; i < 4; i++) most = max(most, __float_as_int(v[i]) & 0x7fffffff);
      const float largest = __int_as_float(simt::reduce_max(simt::kFullMask, most));
      const bool is_zero = largest < kSmallestQuantised;
      const float inverse = is_zero ? 0.0f : kLargest / largest;
      const uint32_t numbers = simt::pack_e4m3(v[0] * inverse, v[1] * inverse) |
                               simt::pack_e4m3(v[2] * inverse, v[3] * inverse) << 16;
      const int place = lane / 16 * kLineBytes + lane % 4 * 16 + lane / 4 % 4 * 4;
      *reinterpret_cast<uint32_t*>(to.numbers + unit * kBlock + place) = numbers;
      if (lane == 0) to.scales[unit] = is_zero ? 0.0f : largest / kLargest;
    }
  }
}

template <int Rows, int Columns, int Down, int Across>
struct Config {
  static constexpr int kRows = Rows, kColumns = Columns, kWarpsAcross = Across,
                       kThreads = 32 * Down * Across;
  static constexpr int kBlocks = kThreads == 128 ? 2 : 1;  // per multiprocessor, as registers allow
  static constexpr int kWarpRows = kRows / Down, kWarpColumns = kColumns / Across;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;  // fragments of a warp
  static_assert(kAcross % 2 == 0, "gate and up are neighbours");
};

template <class C>
struct Smem {
  alignas(128) unsigned char x[kStages][C::kRows * kLineBytes];
  alignas(128) unsigned char weight[kStages][C::kColumns * kLineBytes];
  alignas(16) uint32_t scales[kScaleStages][C::kColumns];
  alignas(16) float x_scales[kScaleStages][C::kRows];
  int source[C::kRows];  // the row of x, or -1
};

// Line `line` of rows that begin at from + row_of(i) * pitch; row_of is -1 for zeros.
template <class C, int kRows, class RowOf>
SIMT_DEVICE void copy_lines(unsigned char* stage, const unsigned char* from, int pitch, int line,
                            const RowOf& row_of) {
  constexpr int kUnits = kLineBytes / 16, kStep = C::kThreads / kUnits;
  static_assert(kRows % kStep == 0, "all threads copy equally many units");
  const int unit = static_cast<int>(threadIdx.x) % kUnits;
#pragma unroll
  for (int i = 0; i < kRows; i += kStep) {
    const int at = i + static_cast<int>(threadIdx.x) / kUnits, row = row_of(at);
    const int64_t offset = static_cast<int64_t>(row) * pitch + line * kLineBytes + unit * 16;
    simt::cp_async_zfill<16>(stage + at * kLineBytes + unit * 16, from + (row >= 0 ? offset : 0),
                             row >= 0 ? 16 : 0);
  }
}

template <class C>
SIMT_DEVICE void copy_scales(const QuantisedGroup<Float8Weight>& w, const Quantised& x, int blocks,
                             const Tile& tile, Smem<C>& s, int block) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread * 4 < C::kColumns) {
    const bool there = tile.column + thread * 4 < w.scale_rows;
    const int64_t at = static_cast<int64_t>(block) * w.scale_rows + tile.column + thread * 4;
    simt::cp_async_zfill<16>(s.scales[block % kScaleStages] + thread * 4,
                             w.scales + (there ? at : 0), there ? 16 : 0);
  }
  if (thread < C::kRows) {
    const int row = s.source[thread];
    const int64_t at = static_cast<int64_t>(row) * blocks + block;
    simt::cp_async_zfill<4>(s.x_scales[block % kScaleStages] + thread,
                            x.scales + (row >= 0 ? at : 0), row >= 0 ? 4 : 0);
  }
}

// The words of a thread's unit of a row: of x or of the weight.
SIMT_DEVICE void load_unit(uint32_t (&words)[4], const unsigned char* lines, int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4 unit =
      reinterpret_cast<const uint4*>(lines + (row + lane / 4) * kLineBytes)[lane % 4];
  words[0] = unit.x, words[1] = unit.y, words[2] = unit.z, words[3] = unit.w;
}

template <class C>
SIMT_DEVICE void multiply(const unsigned char* x, const unsigned char* weight, int row, int column,
                          Sums<C>& sum) {
  uint32_t b[C::kAcross][4];
#pragma unroll
  for (int j = 0; j < C::kAcross; j++) load_unit(b[j], weight, column + j * 8);
#pragma unroll
  for (int i = 0; i < C::kDown; i++) {
    uint32_t low[4], high[4];
    load_unit(low, x, row + i * 16);
    load_unit(high, x, row + i * 16 + 8);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const uint32_t a[4] = {low[2 * h], high[2 * h], low[2 * h + 1], high[2 * h + 1]};
#pragma unroll
      for (int j = 0; j < C::kAcross; j++) {
        const uint32_t half[2] = {b[j][2 * h], b[j][2 * h + 1]};
        simt::mma_e4m3(sum[i][j], a, half);
      }
    }
  }
}

// Adds a block's sums, times both scales.
template <class C>
SIMT_DEVICE void add_scaled(const Smem<C>& s, int block, int row, int column, const Sums<C>& part,
                            Sums<C>& sum) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* rows = s.x_scales[block % kScaleStages] + row + lane / 4;
#pragma unroll
  for (int j = 0; j < C::kAcross; j++) {
    const uint2 two = *reinterpret_cast<const uint2*>(s.scales[block % kScaleStages] + column +
                                                      j * 8 + lane % 4 * 2);
    const float scale[2] = {Float8Weight::scale(two.x), Float8Weight::scale(two.y)};
#pragma unroll
    for (int i = 0; i < C::kDown; i++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float both = scale[e % 2] * rows[i * 16 + e / 2 * 8];
        sum[i][j][e] = fmaf(both, part[i][j][e], sum[i][j][e]);
      }
    }
  }
}

template <class C>
SIMT_DEVICE void compute_tile(const Gemm& g, const Quantised& x, const Tile& tile, Smem<C>& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32, blocks = g.pitch / kBlock;
  const int row = warp / C::kWarpsAcross * C::kWarpRows,
            column = warp % C::kWarpsAcross * C::kWarpColumns;
  find_sources<C>(g, tile, s.source);
  const QuantisedGroup<Float8Weight> w(g.weight, tile.group, g.weight_rows, g.pitch);
  const auto fill = [&](int line) {
    if (line < blocks * kLines) {
      copy_lines<C, C::kRows>(s.x[line % kStages], x.numbers, g.pitch, line,
                              [&](int i) { return s.source[i]; });
      copy_lines<C, C::kColumns>(s.weight[line % kStages], w.values, w.row_bytes, line, [&](int i) {
        return tile.column + i < g.weight_rows ? tile.column + i : -1;
      });
      if (line % kLines == 0) copy_scales<C>(w, x, blocks, tile, s, line / kLines);
    }
    simt::cp_async_commit();  // an empty group past the end, so that groups count lines
  };
  Sums<C> sum = {};
#pragma unroll
  for (int line = 0; line < kStages - 1; line++) fill(line);
  for (int b = 0; b < blocks; b++) {
    Sums<C> part = {};
#pragma unroll
    for (int l = 0; l < kLines; l++) {
      const int line = b * kLines + l;
      simt::cp_async_wait<kStages - 2>();
      __syncthreads();  // this line is there for all, and all have read the stage that is filled
      fill(line + kStages - 1);
      multiply<C>(s.x[line % kStages], s.weight[line % kStages], row, column, part);
    }
    add_scaled<C>(s, b, row, column, part, sum);
  }
  write_sums<C>(g, tile, row, column, sum);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks)
    multiply_float8(const Gemm g, const Quantised x) {
  SIMT_REQUIRES(SIMT_HAS_E4M3) {
    await_inputs();
    auto& s = *simt::smem<Smem<C>>();
    for_each_tile<C>(g, [&](const Tile& tile) { compute_tile<C>(g, x, tile, s); });
  }
}

template <class C>
void launch(const Gemm& g, const Quantised& x, CudaQueue& queue) {
  queue.launch(multiply_float8<C>, persistent<C>(g, queue, C::kBlocks, sizeof(Smem<C>)), g, x);
}

int x_rows(const Gemm& g) {
  return g.token_order != nullptr ? g.rows / g.picks_per_row : g.rows;
}
int64_t x_bytes(const Gemm& g) {
  return x_rows(g) * (g.pitch + g.pitch / kBlock * static_cast<int64_t>(sizeof(float)));
}

template <class X, int N>
void quantise(const Gemm& g, const Quantised& to, CudaQueue& queue) {
  const int rows = x_rows(g), blocks = g.pitch / kBlock, per_block = kQuantiseThreads / 32;
  const int64_t wanted = (static_cast<int64_t>(rows) * blocks + per_block - 1) / per_block,
                most = 8 * queue.multiprocessors();
  const bool sorted = g.token_order == nullptr && g.offsets != nullptr;
  const simt::Launch how = {dim3(static_cast<unsigned>(wanted < most ? wanted : most)),
                            dim3(kQuantiseThreads)};
  // Rows past the last expert's are not there.
  queue.launch(quantise_rows<X, N>, how, static_cast<const X*>(g.x),
               sorted ? g.offsets + g.groups : nullptr, rows, g.k, blocks, to);
}

}  // namespace float8

// sm_100 has no such instruction either: see cuda/simt/float8.h.
bool multiplies_float8(const Gemm& g, const CudaQueue& queue) {
  const int capability = queue.compiled().capability;
  return g.dtype == DType::kF8 && g.activation != Activation::kTanh &&
         (capability == 89 || capability >= 120) && float8::x_bytes(g) <= queue.workspace_bytes();
}

void gemm_sm89_float8(const Gemm& g, bool few_rows, CudaQueue& queue) {
  using namespace float8;
  auto* numbers = static_cast<unsigned char*>(queue.workspace(x_bytes(g)));
  const int64_t bytes = static_cast<int64_t>(x_rows(g)) * g.pitch;  // a multiple of 128
  const Quantised x = {numbers, reinterpret_cast<float*>(numbers + bytes)};
  if (g.x_dtype == DType::kBf16) {
    quantise<simt::bf16, 4>(g, x, queue);
  } else if (g.k % 4 == 0) {
    quantise<float, 4>(g, x, queue);
  } else {
    quantise<float, 1>(g, x, queue);
  }
  if (!few_rows) return launch<Config<128, 128, 2, 4>>(g, x, queue);
  if (most_tiles(g, 32, 128) >= queue.multiprocessors())
    return launch<Config<32, 128, 1, 4>>(g, x, queue);
  launch<Config<32, 32, 2, 2>>(g, x, queue);
}

}  // namespace moepp::cuda
