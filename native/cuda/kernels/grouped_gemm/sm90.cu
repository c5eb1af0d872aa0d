// bf16 weights on Hopper's tensor cores. Persistent blocks of three warpgroups. One thread of the
// first fills a ring of stages by TMA. It has a map over the rows of x, and one over the rows of
// all groups' weights. The two others multiply from the ring with wgmma, 64 rows each.
// SASS sm_90a multiply_wgmma: HGMMA>=4 UTMALDG !HMMA !LDL !STL registers=168 no-spills
#include <algorithm>

#include "cuda/kernels/grouped_gemm/tiles.cuh"
#include "cuda/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace sm90 {

// of k per stage: 128 bytes of bf16, one swizzled row
constexpr int kThreads = 384, kRows = 128, kDepth = 64, kStages = 4;
inline constexpr int kConsumerWarps = 8;
// A block is launched with 168 registers per thread, and deals exactly these anew. With fewer at
// launch the consumers would wait for ever. ptxas gives a kernel with setmaxnreg all that
// __launch_bounds__ leaves it, and the claim above checks that it does.
inline constexpr int kLaunchRegisters = 168, kProducerRegisters = 40, kConsumerRegisters = 232;
static_assert(128 * kProducerRegisters + (kThreads - 128) * kConsumerRegisters ==
                  kThreads * kLaunchRegisters,
              "all are dealt");

template <int Columns>
struct Config {
  static constexpr int kColumns = Columns;  // 192 or 256
};

// A stage is 48 KB of 256 columns: 4.2 million operations, 85 for each byte.
template <class C>
struct Smem {
  alignas(1024) simt::bf16 x[kStages][kRows * kDepth];
  alignas(1024) simt::bf16 weight[kStages][C::kColumns * kDepth];
  simt::Mbarrier full[kStages];   // the producer, and the announced bytes
  simt::Mbarrier empty[kStages];  // every consumer's warp
};

// Of all rows those that a launch computes: row `first` is row 0 of its x.
struct Window {
  int first, end;
};

// The stage that is next, and the parity of its phase, for either side.
struct Ring {
  int stage = 0, parity = 0;

  SIMT_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <class C>
SIMT_DEVICE void produce(const Gemm& g, Window window, const simt::TensorMap* x,
                         const simt::TensorMap* weight, Smem<C>& s) {
  TileWalk<kRows, C::kColumns> walk = {window.first, window.end};
  Ring ring;
  Tile tile;
  for (int64_t number = blockIdx.x; walk.find(g, number, &tile); number += gridDim.x) {
    for (int k = 0; k < g.k; k += kDepth) {
      simt::Mbarrier* full = &s.full[ring.stage];
      simt::mbar_wait(&s.empty[ring.stage], ring.parity ^ 1);
      simt::mbar_arrive_expect_tx(full, sizeof s.x[0] + sizeof s.weight[0]);
      simt::tma_load(s.x[ring.stage], x, k, tile.row - window.first, full);
      simt::tma_load(s.weight[ring.stage], weight, k, tile.group * g.weight_rows + tile.column,
                     full);
      ring.advance();
    }
  }
}

// d[4 j + e] of a thread: row 8 (e / 2) + its own, columns 8 j + e % 2 + its own, as in mma's
// fragments.
template <class C>
SIMT_DEVICE void write(const Gemm& g, const Tile& tile, const float (&sum)[C::kColumns / 2]) {
  const int t = static_cast<int>(threadIdx.x) - 128, pair = t % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int r = tile.row + t / 32 * 16 + t % 32 / 4 + half * 8;
    if (r >= tile.end) continue;
    if (g.activation == Activation::kSwiglu) {
#pragma unroll
      for (int j = 0; j < C::kColumns / 8; j += 2) {
        const float *gate = sum + 4 * j + 2 * half, *up = gate + 4;
        write_pair(g, r, tile.column / 2 + j * 4 + pair, finish_swiglu(g, gate[0], up[0]),
                   finish_swiglu(g, gate[1], up[1]));
      }
    } else {
#pragma unroll
      for (int j = 0; j < C::kColumns / 8; j++) {
        const float* two = sum + 4 * j + 2 * half;
        const int at = tile.column + j * 8 + pair;
        write_pair(g, r, at, biased(g, at, two[0]), biased(g, at + 1, two[1]));
      }
    }
  }
}

template <class C>
SIMT_DEVICE void consume(const Gemm& g, Window window, Smem<C>& s) {
  const int half = static_cast<int>(threadIdx.x) / 128 - 1;  // which 64 rows
  const bool signals = threadIdx.x % 32 == 0;
  TileWalk<kRows, C::kColumns> walk = {window.first, window.end};
  Ring ring;
  Tile tile;
  for (int64_t number = blockIdx.x; walk.find(g, number, &tile); number += gridDim.x) {
    float sum[C::kColumns / 2];
    int last = -1;  // the stage whose products may still be running
    for (int k = 0; k < g.k; k += kDepth) {
      simt::mbar_wait(&s.full[ring.stage], ring.parity);
      const simt::bf16 *x = s.x[ring.stage] + half * 64 * kDepth, *weight = s.weight[ring.stage];
      simt::wgmma_fence();
#pragma unroll
      for (int i = 0; i < kDepth; i += 16) {
        simt::wgmma_bf16<C::kColumns>(sum, simt::wgmma_descriptor(x + i),
                                      simt::wgmma_descriptor(weight + i), k + i > 0);
      }
      simt::wgmma_commit();
      simt::wgmma_wait<1>();
      if (last >= 0 && signals) simt::mbar_arrive(&s.empty[last]);
      last = ring.stage;
      ring.advance();
    }
    simt::wgmma_wait<0>();
    after_wgmma(sum);
    if (signals) simt::mbar_arrive(&s.empty[last]);
    write<C>(g, tile, sum);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    multiply_wgmma(const Gemm g, const Window window, const __grid_constant__ simt::TensorMap x,
                   const __grid_constant__ simt::TensorMap weight) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<Smem<C>>();
    if (threadIdx.x == 0) {
      simt::tma_prefetch_map(&x);
      simt::tma_prefetch_map(&weight);
      for (int i = 0; i < kStages; i++) {
        simt::mbar_init(&s.full[i], 1);
        simt::mbar_init(&s.empty[i], kConsumerWarps);
      }
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    await_inputs();
    if (threadIdx.x < 128) {
      simt::setmaxnreg_dec<kProducerRegisters>();
      if (threadIdx.x == 0) produce<C>(g, window, &x, &weight, s);
    } else {
      simt::setmaxnreg_inc<kConsumerRegisters>();
      consume<C>(g, window, s);
    }
  }
}

template <class C>
void launch(const Gemm& g, const void* x, Window window, CudaQueue& queue) {
  const auto pitch = static_cast<uint64_t>(g.pitch);
  simt::TensorMap x_map, weight_map;
  queue.check(simt::make_tensor_map(&x_map, {x, simt::Element::kBf16, static_cast<uint64_t>(g.k),
                                             static_cast<uint64_t>(window.end - window.first),
                                             pitch * 2, kDepth, kRows, simt::Swizzle::k128}));
  queue.check(simt::make_tensor_map(
      &weight_map,
      {g.weight, simt::Element::kBf16, pitch, static_cast<uint64_t>(g.groups) * g.weight_rows,
       pitch * 2, kDepth, C::kColumns, simt::Swizzle::k128}));
  const int64_t tiles = most_tiles(g, kRows, C::kColumns), blocks = queue.multiprocessors();
  const simt::Launch how = {dim3(static_cast<unsigned>(tiles < blocks ? tiles : blocks)),
                            dim3(kThreads), sizeof(Smem<C>)};
  queue.launch(multiply_wgmma<C>, how, g, window, x_map, weight_map);
}

// Rounds of tiles, times what one costs.
inline int64_t cost(const Gemm& g, int columns, int multiprocessors) {
  return (most_tiles(g, kRows, columns) + multiprocessors - 1) / multiprocessors * columns;
}

inline void launch_for_columns(const Gemm& g, const void* x, Window window, CudaQueue& queue) {
  if (cost(g, 192, queue.multiprocessors()) < cost(g, 256, queue.multiprocessors()))
    return launch<Config<192>>(g, x, window, queue);
  launch<Config<256>>(g, x, window, queue);
}

}  // namespace sm90

void gemm_sm90(const Gemm& g, CudaQueue& queue) {
  if (serves_as_it_is(g)) return sm90::launch_for_columns(g, g.x, {0, g.rows}, queue);
  const int most = static_cast<int>(std::min<int64_t>(rows_at_once(g, queue), g.rows));
  for (int first = 0; first < g.rows; first += most) {
    const int end = std::min(g.rows - first, most) + first;
    copy_x(g, first, end, queue);
    sm90::launch_for_columns(g, queue.workspace(), {first, end}, queue);
  }
}

}  // namespace moepp::cuda
