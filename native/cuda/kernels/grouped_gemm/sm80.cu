// bf16 weights on tensor cores by mma.sync, sm_80 and up. cp.async fills a ring of stages, with the
// gather fused. x that comes as f32 is rounded to bf16 on its way from shared memory to registers.
// That costs half the shared memory's bandwidth of two passes and no memory of its own. x that was
// rounded before takes half as much shared memory, and ldmatrix reads it. Persistent blocks walk
// the tiles.
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 multiply_mma: HMMA LDSM LDGSTS !LDL !STL no-spills
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 13__nv_bfloat16Lb1E: LDSM>=8
#include "cuda/kernels/grouped_gemm/mma_tile.cuh"
#include "cuda/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what sm_75 does not use would be warned about.
namespace sm80 {

template <int StageCount, class XType, bool AlignedX>
struct Config {
  using X = XType;
  static constexpr int kRows = 128, kColumns = 128, kThreads = 128, kWarpsDown = 2,
                       kWarpsAcross = 2;
  static constexpr int kStages = StageCount;
  static constexpr bool kAligned = AlignedX;  // rows of x are whole units of 16 bytes
  static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;  // fragments of a warp
  static_assert(kAcross % 2 == 0, "gate and up are neighbours");

  static SIMT_DEVICE int place(int row, int unit) {
    return sizeof(X) == 4 ? swizzled_128(row, unit) : swizzled_64(row, unit);
  }
};

template <class C>
struct Smem {
  alignas(128) typename C::X x[C::kStages][C::kRows * kDepth];
  alignas(128) simt::bf16 weight[C::kStages][C::kColumns * kDepth];
  int source[C::kRows];  // the row of x, or -1
};

template <class C>
SIMT_DEVICE void copy_weight(const Gemm& g, const Tile& tile, Smem<C>& s, int stage, int k0) {
  constexpr int kUnits = kDepth / 8, kStep = C::kThreads / kUnits;
  const int unit = static_cast<int>(threadIdx.x) % kUnits;
  const bool inside = k0 + unit * 8 < g.pitch;
  const auto* weight = static_cast<const simt::bf16*>(g.weight);
#pragma unroll
  for (int i = 0; i < C::kColumns; i += kStep) {
    const int row = i + static_cast<int>(threadIdx.x) / kUnits;
    const bool there = inside && tile.column + row < g.weight_rows;
    const int64_t stored = static_cast<int64_t>(tile.group) * g.weight_rows + tile.column + row;
    const simt::bf16* from = there ? weight + stored * g.pitch + k0 + unit * 8 : weight;
    simt::cp_async_zfill<16>(s.weight[stage] + swizzled_64(row, unit) * 8, from, there ? 16 : 0);
  }
}

template <class C>
SIMT_DEVICE void multiply(const Smem<C>& s, int stage, int row, int column, Sums<C>& sum) {
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[C::kDown][4], b[C::kAcross][2];
#pragma unroll
    for (int i = 0; i < C::kDown; i++) load_a(a[i], s.x[stage], row + i * 16, k);
#pragma unroll
    for (int j = 0; j < C::kAcross; j += 2)
      load_b_pair(b[j], b[j + 1], s.weight[stage], column + j * 8, k);
#pragma unroll
    for (int i = 0; i < C::kDown; i++) {
#pragma unroll
      for (int j = 0; j < C::kAcross; j++) simt::mma_bf16(sum[i][j], a[i], b[j]);
    }
  }
}

template <class C>
SIMT_DEVICE void compute_tile(const Gemm& g, const Tile& tile, Smem<C>& s) {
  const int warp = static_cast<int>(threadIdx.x) / 32, steps = (g.k + kDepth - 1) / kDepth;
  const int row = warp / C::kWarpsAcross * C::kWarpRows,
            column = warp % C::kWarpsAcross * C::kWarpColumns;
  find_sources<C>(g, tile, s.source);
  const auto fill = [&](int step) {
    if (step < steps) {
      copy_x<C>(g, s.source, s.x[step % C::kStages], step * kDepth);
      copy_weight<C>(g, tile, s, step % C::kStages, step * kDepth);
    }
    simt::cp_async_commit();  // an empty group past the end, so that groups count steps
  };
  Sums<C> sum = {};
#pragma unroll
  for (int step = 0; step < C::kStages - 1; step++) fill(step);
  for (int step = 0; step < steps; step++) {
    simt::cp_async_wait<C::kStages - 2>();
    __syncthreads();  // this step's stage is there for all, and all have read the stage that is
                      // filled next
    fill(step + C::kStages - 1);
    multiply<C>(s, step % C::kStages, row, column, sum);
  }
  write_sums<C>(g, tile, row, column, sum);
}

template <class C>
__global__ void __launch_bounds__(C::kThreads) multiply_mma(const Gemm g) {
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    await_inputs();
    auto& s = *simt::smem<Smem<C>>();
    for_each_tile<C>(g, [&](const Tile& tile) { compute_tile<C>(g, tile, s); });
  }
}

template <class C>
void launch(const Gemm& g, CudaQueue& queue) {
  queue.launch(multiply_mma<C>, persistent<C>(g, queue, 2, sizeof(Smem<C>)), g);
}

// 100 KB of shared memory per multiprocessor (8.6, 8.9, 12.x) hold two blocks of 2 stages, or of 3
// with bf16 x; 164 KB and more two of 3.
template <class X, bool kAligned>
void launch_for_chip(const Gemm& g, CudaQueue& queue) {
  if constexpr (sizeof(X) == 4) {
    const int chip = queue.compiled().capability;
    const bool large = chip == 80 || chip == 87 || (chip >= 90 && chip < 120);
    if (!large) return launch<Config<2, X, kAligned>>(g, queue);
  }
  launch<Config<3, X, kAligned>>(g, queue);
}

}  // namespace sm80

void gemm_sm80(const Gemm& g, CudaQueue& queue) {
  if (g.x_dtype == DType::kBf16) return sm80::launch_for_chip<simt::bf16, true>(g, queue);
  if (g.has_units_of(4)) return sm80::launch_for_chip<float, true>(g, queue);
  sm80::launch_for_chip<float, false>(g, queue);
}

}  // namespace moepp::cuda
