// A persistent product on Hopper's tensor cores, for the kernels of sm90.cu and sm90_float8.cu.
// Blocks have three warpgroups. One thread of the first fills a ring of stages by TMA. It has a map
// over the rows of x, and one over the rows of all groups' weights. The two others multiply from
// the ring with wgmma, 64 rows each. The last tile of a group with no more rows than that is one
// warpgroup's, in half the time.
//
// A kernel's Config C is a Shape with
//
//   Element, kDepth, kStages    the type of both operands; k of a stage: 128 bytes, a swizzled row
//   Maps                        tensor maps: x [rows, k], weight [rows of all groups, k], and more
//   maps(g, x, window, queue)   host: makes them
//   Scales                      what a stage has beside the operands
//   weight_row(g, group)        where a group begins in the weight's map
//   ScaleLoads(g, window, tile) brings Scales, stage_bytes() for each stage:
//                               start(g, maps, k, scales, full)
//   multiply(g, part, s, ring, sum)    a warpgroup's part of a tile: sum = x weight^T
#pragma once

#include <algorithm>

#include "cuda/kernels/grouped_gemm/tiles.cuh"
#include "cuda/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace sm90 {

constexpr int kThreads = 384, kRows = 128, kPartRows = 64, kRowBytes = 128;
inline constexpr int kConsumerWarps = 8, kWarpRows = 16;
// A block is launched with 168 registers per thread, and deals exactly these anew. With fewer at
// launch the consumers would wait for ever. ptxas gives a kernel with setmaxnreg all that
// __launch_bounds__ leaves it, and the sources' claims check that it does.
inline constexpr int kLaunchRegisters = 168, kProducerRegisters = 40, kConsumerRegisters = 232;
static_assert(128 * kProducerRegisters + (kThreads - 128) * kConsumerRegisters ==
                  kThreads * kLaunchRegisters,
              "all are dealt");

template <int Columns, int Blocks>
struct Shape {
  static constexpr int kColumns = Columns;  // 192 or 256
  static constexpr int kBlocks = Blocks;    // of a cluster: 1 or 2
};

// 16 bytes more than half a tile's columns: the rows of a fragment begin in banks of their own.
template <class C>
struct OutRow {
  alignas(16) simt::bf16 columns[C::kColumns / 2 + 8];
};

// A stage is 48 KB of 256 columns. Each of two blocks loads half of the weights for both.
template <class C>
struct Smem {
  static_assert(C::kDepth * sizeof(typename C::Element) == kRowBytes, "a row of a swizzle");
  alignas(1024) typename C::Element x[C::kStages][2][kPartRows * C::kDepth];
  alignas(1024) typename C::Element weight[C::kStages][C::kColumns * C::kDepth];
  typename C::Scales scales[C::kStages];
  OutRow<C> out[kConsumerWarps][kWarpRows];
  simt::Mbarrier full[C::kStages];   // the producer, and the announced bytes
  simt::Mbarrier empty[C::kStages];  // every consumer's warp, of all blocks that are loaded for
};

// Of all rows those that a launch computes: row `first` is row 0 of its x.
struct Window {
  int first, end;
};

// The stage that is next, and the parity of its phase, for either side.
template <class C>
struct Ring {
  int stage = 0, parity = 0;

  SIMT_DEVICE void advance() {
    if (++stage < C::kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// The tiles of a block, or of a cluster's two.
template <class C>
struct Walk {
  TileWalk<kRows * C::kBlocks, C::kColumns> tiles;
  int round = 0;

  SIMT_DEVICE Walk(Window window) : tiles{window.first, window.end} {}

  // Blocks change places from round to round. Of two row tiles a group has, the second may be
  // short, and half of an even number of blocks would meet nothing else.
  SIMT_DEVICE bool next(const Gemm& g, Tile* tile) {
    const int clusters = static_cast<int>(gridDim.x) / C::kBlocks,
              cluster = static_cast<int>(blockIdx.x) / C::kBlocks;
    const int64_t number = static_cast<int64_t>(round) * clusters + (cluster + round) % clusters;
    round++;
    if (!tiles.find(g, number, tile)) return false;
    if constexpr (C::kBlocks == 2) {
      // Two warpgroups of each block, or one, so that neither block waits for the other.
      const int rows = tile->end - tile->row > kRows ? kRows : kPartRows;
      tile->row += static_cast<int>(simt::cluster_rank()) * rows;
      tile->end = min(tile->end, tile->row + rows);
    }
    return true;
  }
};

// By the warp that has read a stage.
template <class C>
SIMT_DEVICE void release(Smem<C>& s, int stage) {
  const unsigned lane = threadIdx.x % 32;
  if constexpr (C::kBlocks == 1) {
    if (lane == 0) simt::mbar_arrive(&s.empty[stage]);
  } else {
    if (lane < C::kBlocks) simt::mbar_arrive_in(&s.empty[stage], lane);
  }
}

// `row`: of the weights' map.
template <class C>
SIMT_DEVICE void load_weight(const simt::TensorMap* weight, int k, int row, Smem<C>& s, int stage) {
  if constexpr (C::kBlocks == 1) {
    simt::tma_load(s.weight[stage], weight, k, row, &s.full[stage]);
  } else {
    const int first = static_cast<int>(simt::cluster_rank()) * (C::kColumns / 2);
    simt::tma_load_multicast(s.weight[stage] + first * C::kDepth, weight, k, row + first,
                             &s.full[stage], 3);
  }
}

template <class C>
SIMT_DEVICE void produce(const Gemm& g, Window window, const typename C::Maps& maps, Smem<C>& s) {
  Walk<C> walk(window);
  Ring<C> ring;
  Tile tile;
  while (walk.next(g, &tile)) {
    const int rows = tile.end - tile.row, parts = rows > kPartRows ? 2 : rows > 0 ? 1 : 0;
    typename C::ScaleLoads scales(g, window, tile);
    const auto bytes =
        static_cast<uint32_t>(parts * sizeof s.x[0][0] + sizeof s.weight[0]) + scales.stage_bytes();
    for (int k = 0; k < g.k; k += C::kDepth) {
      simt::Mbarrier* full = &s.full[ring.stage];
      simt::mbar_wait(&s.empty[ring.stage], ring.parity ^ 1);
      simt::mbar_arrive_expect_tx(full, bytes);
      for (int i = 0; i < parts; i++) {
        simt::tma_load(s.x[ring.stage][i], &maps.x, k, tile.row - window.first + i * kPartRows,
                       full);
      }
      load_weight<C>(&maps.weight, k, C::weight_row(g, tile.group) + tile.column, s, ring.stage);
      scales.start(g, maps, k, s.scales[ring.stage], full);
      ring.advance();
    }
  }
}

// Two neighbouring results, of output columns `column` and + 1. d[4 j + e] of a thread belongs to
// row 8 (e / 2) + its own, stored row 8 j + e % 2 + its own, as in mma's fragments.
template <class C, bool kSwiglu>
SIMT_DEVICE float2 result(const Gemm& g, const float (&sum)[C::kColumns / 2], int j, int half,
                          int column) {
  const float* two = sum + (kSwiglu ? 8 : 4) * j + 2 * half;
  if constexpr (kSwiglu)
    return make_float2(finish_swiglu(g, two[0], two[4]), finish_swiglu(g, two[1], two[5]));
  return make_float2(biased(g, column, two[0]), biased(g, column + 1, two[1]));
}

// From registers to memory, of any type: 8 rows at a time.
template <class C, bool kSwiglu>
SIMT_DEVICE void write(const Gemm& g, const Tile& tile, const float (&sum)[C::kColumns / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = tile.row + lane / 4 + half * 8;
    if (r >= tile.end) continue;
#pragma unroll
    for (int j = 0; j < C::kColumns / (kSwiglu ? 16 : 8); j++) {
      const int column = tile.column / (kSwiglu ? 2 : 1) + j * 8 + lane % 4 * 2;
      const float2 two = result<C, kSwiglu>(g, sum, j, half, column);
      write_pair(g, out_row(g, tile.group, r), column, two.x, two.y);
    }
  }
}

// bf16 by way of shared memory, from where whole rows leave while the next tile is multiplied. A
// row is half a tile's columns wide. TMA would store a tile at once, and the rows past a group's
// end with it.
template <class C, bool kSwiglu>
SIMT_DEVICE void send(const Gemm& g, const Tile& tile, const float (&sum)[C::kColumns / 2],
                      OutRow<C> (&rows)[kWarpRows]) {
  constexpr int kWide = C::kColumns / 2;
  const int lane = static_cast<int>(threadIdx.x) % 32, r = tile.row + lane;
#pragma unroll
  for (int piece = 0; piece < (kSwiglu ? 1 : 2); piece++) {
    const int first = tile.column / (kSwiglu ? 2 : 1) + piece * kWide;
    simt::tma_store_wait<0>();
    __syncwarp();  // the rows before have left
#pragma unroll
    for (int i = 0; i < kWide / 4; i++) {
      const int half = i % 2, j = i / 2, column = j * 8 + lane % 4 * 2;
      const float2 two = result<C, kSwiglu>(g, sum, piece * kWide / 8 + j, half, first + column);
      *reinterpret_cast<uint32_t*>(rows[lane / 4 + half * 8].columns + column) =
          simt::pack_bf16(two.x, two.y);
    }
    simt::fence_proxy_async();  // TMA reads what was stored here
    __syncwarp();
    const int columns = min(kWide, g.columns - first);
    if (lane < kWarpRows && r < tile.end && columns > 0) {
      simt::bulk_store(
          static_cast<simt::bf16*>(g.out.data) + static_cast<int64_t>(r) * g.columns + first,
          rows[lane].columns, static_cast<uint32_t>(columns) * 2);
      simt::tma_store_commit();
    }
  }
}

// The 16 rows of a warp, from tile.row on.
template <class C, bool kSwiglu>
SIMT_DEVICE void put(const Gemm& g, const Tile& tile, const float (&sum)[C::kColumns / 2],
                     OutRow<C> (&rows)[kWarpRows]) {
  const bool whole_units = g.columns % 8 == 0 && reinterpret_cast<uintptr_t>(g.out.data) % 16 == 0;
  if (g.out.bf16 && whole_units) return send<C, kSwiglu>(g, tile, sum, rows);
  write<C, kSwiglu>(g, tile, sum);
}

// A tile without rows for this warpgroup: the other one has the tensor cores to itself.
template <class C>
SIMT_DEVICE void pass(const Gemm& g, Smem<C>& s, Ring<C>& ring) {
  for (int k = 0; k < g.k; k += C::kDepth) {
    simt::mbar_wait(&s.full[ring.stage], ring.parity);
    __syncwarp();  // a lane that came late would miss the phase
    release<C>(s, ring.stage);
    ring.advance();
  }
}

template <class C>
SIMT_DEVICE void consume(const Gemm& g, Window window, Smem<C>& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32 - (kThreads / 32 - kConsumerWarps),
            part = warp / 4;
  Walk<C> walk(window);
  Ring<C> ring;
  Tile tile;
  while (walk.next(g, &tile)) {
    if (tile.row + part * kPartRows >= tile.end) {
      pass<C>(g, s, ring);
      continue;
    }
    float sum[C::kColumns / 2];
    C::multiply(g, part, s, ring, sum);
    tile.row += warp * kWarpRows;
    if (g.activation == Activation::kSwiglu) {
      put<C, true>(g, tile, sum, s.out[warp]);
    } else {
      put<C, false>(g, tile, sum, s.out[warp]);
    }
  }
  simt::tma_store_wait<0>();
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    multiply_wgmma(const Gemm g, const Window window,
                   const __grid_constant__ typename C::Maps maps) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<Smem<C>>();
    if (threadIdx.x == 0) {
      simt::tma_prefetch_map(&maps.x);
      simt::tma_prefetch_map(&maps.weight);
      for (int i = 0; i < C::kStages; i++) {
        simt::mbar_init(&s.full[i], 1);
        simt::mbar_init(&s.empty[i], C::kBlocks * kConsumerWarps);
      }
      simt::fence_mbarrier_init();
    }
    if constexpr (C::kBlocks == 1) {
      __syncthreads();
    } else {
      simt::cluster_sync();
    }
    await_inputs();
    if (threadIdx.x < 128) {
      simt::setmaxnreg_dec<kProducerRegisters>();
      if (threadIdx.x == 0) produce<C>(g, window, maps, s);
    } else {
      simt::setmaxnreg_inc<kConsumerRegisters>();
      consume<C>(g, window, s);
    }
    // the other block may still load and arrive here
    if constexpr (C::kBlocks == 2) simt::cluster_sync();
  }
}

template <class C, class X>
void launch(const Gemm& g, const X& x, Window window, CudaQueue& queue) {
  const int64_t tiles = most_tiles(g, kRows * C::kBlocks, C::kColumns),
                clusters = std::max(queue.multiprocessors() / C::kBlocks, 1);
  simt::Launch how = {dim3(static_cast<unsigned>(std::min(tiles, clusters) * C::kBlocks)),
                      dim3(kThreads), sizeof(Smem<C>)};
  how.cluster = C::kBlocks;
  queue.launch(multiply_wgmma<C>, how, g, window, C::maps(g, x, window, queue));
}

// Rounds of tiles, times what one costs.
template <class C>
int64_t cost(const Gemm& g, const CudaQueue& queue) {
  const int64_t clusters = std::max(queue.multiprocessors() / C::kBlocks, 1);
  return (most_tiles(g, kRows * C::kBlocks, C::kColumns) + clusters - 1) / clusters * C::kColumns;
}

template <template <int, int> class Config, int Blocks, class X>
void launch_for_columns(const Gemm& g, const X& x, Window window, CudaQueue& queue) {
  using Narrow = Config<192, Blocks>;
  using Wide = Config<256, Blocks>;
  if (cost<Narrow>(g, queue) < cost<Wide>(g, queue)) return launch<Narrow>(g, x, window, queue);
  launch<Wide>(g, x, window, queue);
}

// Clusters where a group has two tiles of rows on average.
template <template <int, int> class Config, class X>
void launch_for_rows(const Gemm& g, const X& x, Window window, CudaQueue& queue) {
  if (g.rows / g.groups > kRows) return launch_for_columns<Config, 2>(g, x, window, queue);
  launch_for_columns<Config, 1>(g, x, window, queue);
}

// multiply(window) for all rows, `most` at once.
template <class Multiply>
void for_each_window(const Gemm& g, int64_t most, const Multiply& multiply) {
  const int step = static_cast<int>(std::min<int64_t>(most, g.rows));
  for (int first = 0; first < g.rows; first += step)
    multiply(Window{first, std::min(g.rows - first, step) + first});
}

}  // namespace sm90

}  // namespace moepp::cuda
