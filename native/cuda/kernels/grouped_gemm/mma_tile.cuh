// The sums of a warp's part of a tile, as mma.m16n8k16 leaves them, and their way into the output. C has kDown x kAcross
// fragments per warp, kAcross even, and kTanh: whether the kernel knows that activation.
#pragma once

#include "cuda/kernels/grouped_gemm/tiles.cuh"

namespace moepp::cuda {

template <class C>
using Sums = float[C::kDown][C::kAcross][4];

// The warp's first row and column within the tile are `row` and `column`.
template <class C>
SIMT_DEVICE void write_sums(const Gemm& g, const Tile& tile, int row, int column, const Sums<C>& sum) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * C::kDown; i++) {
    const int r = tile.row + row + i * 8 + lane / 4;
    if (r >= tile.end) continue;
    float* out = g.out + static_cast<int64_t>(r) * g.columns;
    if (g.activation == Activation::kSwiglu) {
#pragma unroll
      for (int j = 0; j < C::kAcross; j += 2) {
        const float *gate = sum[i / 2][j] + i % 2 * 2, *up = sum[i / 2][j + 1] + i % 2 * 2;
        write_pair(g, out, (tile.column + column) / 2 + j * 4 + lane % 4 * 2, finish_swiglu(g, gate[0], up[0]),
                   finish_swiglu(g, gate[1], up[1]));
      }
    } else {
#pragma unroll
      for (int j = 0; j < C::kAcross; j++) {
        const float* two = sum[i / 2][j] + i % 2 * 2;
        const int at = tile.column + column + j * 8 + lane % 4 * 2;
        if (C::kTanh) {
          write_pair(g, out, at, finish(g, two[0]), finish(g, two[1]));
        } else {
          write_pair(g, out, at, g.scale * two[0], g.scale * two[1]);
        }
      }
    }
  }
}

}  // namespace moepp::cuda
