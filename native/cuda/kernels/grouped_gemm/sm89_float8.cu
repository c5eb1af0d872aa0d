// float8 weights times activations in e4m3, where tensor cores multiply that by mma.sync: sm_89 and
// sm_120. They do so at twice the rate of bf16. x is quantised by a kernel of its own
// (float8_x.cu). This one sums products of 128 k, and adds these sums to others in f32, times the
// scale of the weight's row and of x's.
//
// Lines of 64 k of x and of the weight travel in the same order (weight_layout.h). A thread reads
// 16 bytes of a row for two products. Persistent blocks walk the tiles.
// SASS sm_89,sm_120 multiply_float8: QMMA LDGSTS !LDL !STL no-spills
#include "cuda/kernels/grouped_gemm/mma_tile.cuh"
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/simt/float8.h"

namespace moepp::cuda {

namespace float8 {

constexpr int kBlock = static_cast<int>(kQuantBlock), kLineDepth = 64, kLineBytes = 64;
inline constexpr int kLines = kBlock / kLineDepth, kStages = 4;
constexpr int kScaleStages = 3;  // of blocks: two are under way while one is added

struct Config {
  static constexpr int kRows = 128, kColumns = 128, kWarpsDown = 2, kWarpsAcross = 4,
                       kThreads = 32 * kWarpsDown * kWarpsAcross;
  static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;  // fragments of a warp
  static_assert(kAcross % 2 == 0, "gate and up are neighbours");
};
using C = Config;

struct Smem {
  alignas(128) unsigned char x[kStages][C::kRows * kLineBytes];
  alignas(128) unsigned char weight[kStages][C::kColumns * kLineBytes];
  alignas(16) uint32_t scales[kScaleStages][C::kColumns];
  alignas(16) float x_scales[kScaleStages][C::kRows];
  int source[C::kRows];  // the row of x, or -1
};

// Line `line` of rows that begin at from + row_of(i) * pitch; row_of is -1 for zeros.
template <int kRows, class RowOf>
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

SIMT_DEVICE void copy_scales(const QuantisedGroup<Float8Weight>& w, const Float8Rows& x,
                             const Tile& tile, Smem& s, int block) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread * 4 < C::kColumns) {
    const bool there = tile.column + thread * 4 < w.scale_rows;
    const int64_t at = static_cast<int64_t>(block) * w.scale_rows + tile.column + thread * 4;
    simt::cp_async_zfill<16>(s.scales[block % kScaleStages] + thread * 4,
                             w.scales + (there ? at : 0), there ? 16 : 0);
  }
  if (thread < C::kRows) {
    const int row = s.source[thread];
    const int64_t at = static_cast<int64_t>(block) * x.scale_rows + row;
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
SIMT_DEVICE void add_scaled(const Smem& s, int block, int row, int column, const Sums<C>& part,
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

SIMT_DEVICE void compute_tile(const Gemm& g, const Float8Rows& x, const Tile& tile, Smem& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32, blocks = g.pitch / kBlock;
  const int row = warp / C::kWarpsAcross * C::kWarpRows,
            column = warp % C::kWarpsAcross * C::kWarpColumns;
  find_sources<C>(g, tile, s.source);
  const QuantisedGroup<Float8Weight> w(g.weight, tile.group, g.weight_rows, g.pitch);
  const auto fill = [&](int line) {
    if (line < blocks * kLines) {
      copy_lines<C::kRows>(s.x[line % kStages], x.numbers, g.pitch, line,
                           [&](int i) { return s.source[i]; });
      copy_lines<C::kColumns>(s.weight[line % kStages], w.values, w.row_bytes, line, [&](int i) {
        return tile.column + i < g.weight_rows ? tile.column + i : -1;
      });
      if (line % kLines == 0) copy_scales(w, x, tile, s, line / kLines);
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
      multiply(s.x[line % kStages], s.weight[line % kStages], row, column, part);
    }
    add_scaled(s, b, row, column, part, sum);
  }
  write_sums<C>(g, tile, row, column, sum);
}

__global__ void __launch_bounds__(C::kThreads, 1)
    multiply_float8(const Gemm g, const Float8Rows x) {
  SIMT_REQUIRES(SIMT_HAS_E4M3_MMA) {
    await_inputs();
    auto& s = *simt::smem<Smem>();
    for_each_tile<C>(g, [&](const Tile& tile) { compute_tile(g, x, tile, s); });
  }
}

// Rows of x, which the products gather.
int x_rows(const Gemm& g) {
  return g.token_order != nullptr ? g.rows / g.picks_per_row : g.rows;
}

}  // namespace float8

bool fits_sm89_float8(const Gemm& g, const CudaQueue& queue) {
  const int capability = queue.compiled().capability;
  return (capability == 89 || capability >= 120) &&
         float8_bytes(g, float8::x_rows(g)) <= queue.workspace_bytes();
}

void gemm_sm89_float8(const Gemm& g, CudaQueue& queue) {
  using float8::C, float8::Smem;
  // Rows of a grouped product may end before g.rows.
  const bool of_output = g.offsets != nullptr && g.token_order == nullptr;
  const Float8Rows x = quantise_x(g, of_output, 0, float8::x_rows(g), queue);
  queue.launch(float8::multiply_float8, persistent<C>(g, queue, 1, sizeof(Smem)), g, x);
}

}  // namespace moepp::cuda
