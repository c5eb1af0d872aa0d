// Shared parts of the kernels with mma.m16n8k16. Blocks walk tiles of kRows x kColumns, with stages
// of x, and move the sums into the output. Their Config C has these two and kThreads. X: the type
// of x, float or bf16. kAligned: rows of x are whole units of 16 bytes. place(row, unit): a unit's
// place in a stage of x, in units. kDown x kAcross: fragments per warp, kAcross even. No tanh.
#pragma once

#include "cuda/kernels/grouped_gemm/tiles.cuh"

namespace moepp::cuda {

constexpr int kDepth = 32;  // k of a stage of x

// Persistent blocks, so many for each multiprocessor.
template <class C>
simt::Launch persistent(const Gemm& g, const CudaQueue& queue, int per_multiprocessor,
                        size_t smem_bytes) {
  const int64_t tiles = most_tiles(g, C::kRows, C::kColumns),
                blocks = per_multiprocessor * queue.multiprocessors();
  return {dim3(static_cast<unsigned>(tiles < blocks ? tiles : blocks)), dim3(C::kThreads),
          smem_bytes};
}

// compute(tile) for this block's tiles.
template <class C, class Compute>
SIMT_DEVICE void for_each_tile(const Gemm& g, const Compute& compute) {
  TileWalk<C::kRows, C::kColumns> walk;
  Tile tile;
  for (int64_t number = blockIdx.x; walk.find(g, number, &tile); number += gridDim.x) compute(tile);
}

// source[i]: the row of x that row i of the tile reads, or -1. All threads; what they read of the
// tile before is free then.
template <class C>
SIMT_DEVICE void find_sources(const Gemm& g, const Tile& tile, int (&source)[C::kRows]) {
  for (int i = threadIdx.x; i < C::kRows; i += C::kThreads) {
    source[i] = tile.row + i < tile.end ? source_row(g, tile.group, tile.row + i) : -1;
  }
  __syncthreads();
}

// Loads k0 .. k0 + kDepth - 1 of the tile's rows of x. It moves units of 16 bytes if the rows are
// aligned so, else single elements.
template <class C>
SIMT_DEVICE void copy_x(const Gemm& g, const int (&source)[C::kRows], typename C::X* stage,
                        int k0) {
  using X = typename C::X;
  constexpr int kWide = 16 / sizeof(X), kUnit = C::kAligned ? kWide : 1, kUnits = kDepth / kUnit,
                kStep = C::kThreads / kUnits, kBytes = kUnit * sizeof(X);
  static_assert(C::kRows % kStep == 0, "all threads copy equally many units");
  const int element = static_cast<int>(threadIdx.x) % kUnits * kUnit, k = k0 + element;
#pragma unroll C::kAligned ? 8 : 1
  for (int i = 0; i < C::kRows; i += kStep) {
    const int row = i + static_cast<int>(threadIdx.x) / kUnits;
    const bool there = k < g.k && source[row] >= 0;
    const X* from = g.x_row<X>(there ? source[row] : 0) + (there ? k : 0);
    simt::cp_async_zfill<kBytes>(stage + C::place(row, element / kWide) * kWide + element % kWide,
                                 from, there ? kBytes : 0);
  }
}

template <class C>
using Sums = float[C::kDown][C::kAcross][4];

// The warp's first row and column within the tile are `row` and `column`.
template <class C>
SIMT_DEVICE void write_sums(const Gemm& g, const Tile& tile, int row, int column,
                            const Sums<C>& sum) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 2 * C::kDown; i++) {
    const int r = tile.row + row + i * 8 + lane / 4, to = out_row(g, tile.group, r);
    if (r >= tile.end) continue;
    if (g.activation == Activation::kSwiglu) {
#pragma unroll
      for (int j = 0; j < C::kAcross; j += 2) {
        const float *gate = sum[i / 2][j] + i % 2 * 2, *up = sum[i / 2][j + 1] + i % 2 * 2;
        write_pair(g, to, (tile.column + column) / 2 + j * 4 + lane % 4 * 2,
                   finish_swiglu(g, gate[0], up[0]), finish_swiglu(g, gate[1], up[1]));
      }
    } else {
#pragma unroll
      for (int j = 0; j < C::kAcross; j++) {
        const float* two = sum[i / 2][j] + i % 2 * 2;
        const int at = tile.column + column + j * 8 + lane % 4 * 2;
        write_pair(g, to, at, biased(g, at, two[0]), biased(g, at + 1, two[1]));
      }
    }
  }
}

}  // namespace moepp::cuda
