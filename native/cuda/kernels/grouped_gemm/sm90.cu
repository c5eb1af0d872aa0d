// bf16 weights on Hopper's tensor cores. Persistent blocks of three warpgroups: a producer fills a
// ring of stages, two consumers of 64 rows each multiply from it with wgmma. Weights come by TMA
// through one map over the rows of all groups. TMA cannot bring activations, which are gathered.
// The producer's threads load them, round f32 ones to bf16, and store them swizzled. Meanwhile the
// loads of the next stage are on their way.
// SASS sm_90a multiply_wgmma: HGMMA>=4 UTMALDG !HMMA !LDL !STL registers=168 no-spills
#include "cuda/kernels/grouped_gemm/tiles.cuh"
#include "cuda/mma.cuh"

namespace moepp::cuda {

// Not an anonymous namespace: what other chips do not use would be warned about.
namespace sm90 {

// of k per stage: 128 bytes of bf16, one swizzled row
constexpr int kThreads = 384, kRows = 128, kDepth = 64;
inline constexpr int kConsumerWarps = 8;
// A block is launched with 168 registers per thread, and deals exactly these anew. With fewer at
// launch the consumers would wait for ever. ptxas gives a kernel with setmaxnreg all that
// __launch_bounds__ leaves it, and the claim above checks that it does.
inline constexpr int kLaunchRegisters = 168, kProducerRegisters = 104, kConsumerRegisters = 200;
static_assert(128 * kProducerRegisters + (kThreads - 128) * kConsumerRegisters ==
                  kThreads * kLaunchRegisters,
              "all are dealt");

template <int Columns, int StageCount, class XType>
struct Config {
  using X = XType;                          // float or bf16
  static constexpr int kColumns = Columns;  // 192 or 256
  static constexpr int kStages = StageCount;
};

template <class C>
struct Smem {
  alignas(1024) simt::bf16 x[C::kStages][kRows * kDepth];
  alignas(1024) simt::bf16 weight[C::kStages][C::kColumns * kDepth];
  simt::Mbarrier full[C::kStages];   // 128 producers, and the announcement of TMA's bytes
  simt::Mbarrier empty[C::kStages];  // every consumer's warp
};

// The stage that is next, and the parity of its phase, for either side.
template <int kStages>
struct Ring {
  int stage = 0, parity = 0;

  SIMT_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// A producer's thread brings unit number `unit`, of 16 bytes, of every kStep-th row. kUnits lanes
// read a row's whole part, 256 contiguous bytes of f32 or 128 of bf16, with one instruction. So no
// 32-byte sector comes twice, although these loads go past L1. A stage moves 32 or 16 KB of x, and
// 24 or 32 KB of weights.
template <class X>
struct RowsInFlight {
  static constexpr int kWide = 16 / sizeof(X), kUnits = kDepth / kWide, kStep = 128 / kUnits,
                       kInFlight = kRows / kStep;
  unsigned source;  // row of x of the row `unit` of these; all ones: past the group's end
  uint4 v[kInFlight];

  SIMT_DEVICE static int first_row() { return static_cast<int>(threadIdx.x) / kUnits; }
  SIMT_DEVICE static int unit() { return static_cast<int>(threadIdx.x) % kUnits; }

  SIMT_DEVICE void begin(const Gemm& g, const Tile& tile) {
    static_assert(kInFlight == kUnits, "each lane of a row keeps the source of one row");
    const int row = tile.row + first_row() + unit() * kStep;
    source = row < tile.end ? static_cast<unsigned>(source_row(g, row)) : ~0u;
#pragma unroll
    for (int i = 0; i < kInFlight; i++) load(g, i, 0);
  }
  // ptxas spills when the address is made behind the condition, or counts floats.
  SIMT_DEVICE void load(const Gemm& g, int i, int k0) {
    const unsigned from = __shfl_sync(simt::kFullMask, source, i, kUnits),
                   k = static_cast<unsigned>(k0 / kWide + unit()),
                   units = static_cast<unsigned>(g.k / kWide);
    const uint4* x = g.x_as<uint4>() + (static_cast<uint64_t>(from) * units + k);
    v[i] = from != ~0u && k < units ? simt::load_l2(x) : make_uint4(0, 0, 0, 0);
  }
  // The lanes of a row store all of it, 8 or 16 bytes each: all banks once.
  SIMT_DEVICE void store(simt::bf16* tile, int i) const {
    const int row = first_row() + i * kStep;
    if constexpr (sizeof(X) == 2) {
      reinterpret_cast<uint4*>(tile)[swizzled_wgmma(row, unit())] = v[i];
    } else {
      const int place = 2 * swizzled_wgmma(row, unit() / 2) + unit() % 2;
      reinterpret_cast<uint2*>(tile)[place] =
          make_uint2(simt::pack_bf16(__uint_as_float(v[i].x), __uint_as_float(v[i].y)),
                     simt::pack_bf16(__uint_as_float(v[i].z), __uint_as_float(v[i].w)));
    }
  }
};

template <class C>
SIMT_DEVICE void produce(const Gemm& g, const simt::TensorMap* weight, Smem<C>& s) {
  TileWalk<kRows, C::kColumns> walk;
  Ring<C::kStages> ring;
  Tile tile;
  for (int64_t number = blockIdx.x; walk.find(g, number, &tile); number += gridDim.x) {
    using Rows = RowsInFlight<typename C::X>;
    Rows rows;
    rows.begin(g, tile);
    for (int k = 0; k < g.k; k += kDepth) {
      simt::mbar_wait(&s.empty[ring.stage], ring.parity ^ 1);
      if (threadIdx.x == 0) {
        simt::mbar_arrive_expect_tx(&s.full[ring.stage], sizeof s.weight[0]);
        simt::tma_load(s.weight[ring.stage], weight, k, tile.group * g.weight_rows + tile.column,
                       &s.full[ring.stage]);
      }
#pragma unroll
      for (int i = 0; i < Rows::kInFlight; i++) {
        rows.store(s.x[ring.stage], i);
        rows.load(g, i, k + kDepth);
      }
      simt::fence_proxy_async();  // wgmma reads what was stored here
      simt::mbar_arrive(&s.full[ring.stage]);
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
SIMT_DEVICE void consume(const Gemm& g, Smem<C>& s) {
  const int half = static_cast<int>(threadIdx.x) / 128 - 1;  // which 64 rows
  const bool signals = threadIdx.x % 32 == 0;
  TileWalk<kRows, C::kColumns> walk;
  Ring<C::kStages> ring;
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
    multiply_wgmma(const Gemm g, const __grid_constant__ simt::TensorMap weight) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<Smem<C>>();
    if (threadIdx.x == 0) {
      simt::tma_prefetch_map(&weight);
      for (int i = 0; i < C::kStages; i++) {
        simt::mbar_init(&s.full[i], 128 + 1);
        simt::mbar_init(&s.empty[i], kConsumerWarps);
      }
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    await_inputs();
    if (threadIdx.x < 128) {
      simt::setmaxnreg_dec<kProducerRegisters>();
      produce<C>(g, &weight, s);
    } else {
      simt::setmaxnreg_inc<kConsumerRegisters>();
      consume<C>(g, s);
    }
  }
}

template <class C>
void launch(const Gemm& g, CudaQueue& queue) {
  simt::TensorMap weight;
  queue.check(simt::make_tensor_map(
      &weight, {g.weight, simt::Element::kBf16, static_cast<uint64_t>(g.pitch),
                static_cast<uint64_t>(g.groups) * g.weight_rows, static_cast<uint64_t>(g.pitch) * 2,
                kDepth, C::kColumns, simt::Swizzle::k128}));
  const int64_t tiles = most_tiles(g, kRows, C::kColumns), blocks = queue.multiprocessors();
  const simt::Launch how = {dim3(static_cast<unsigned>(tiles < blocks ? tiles : blocks)),
                            dim3(kThreads), sizeof(Smem<C>)};
  queue.launch(multiply_wgmma<C>, how, g, weight);
}

// Rounds of tiles, times what one costs.
inline int64_t cost(const Gemm& g, int columns, int multiprocessors) {
  return (most_tiles(g, kRows, columns) + multiprocessors - 1) / multiprocessors * columns;
}

template <class X>
void launch_for_columns(const Gemm& g, CudaQueue& queue) {
  if (cost(g, 192, queue.multiprocessors()) < cost(g, 256, queue.multiprocessors()))
    return launch<Config<192, 5, X>>(g, queue);
  launch<Config<256, 4, X>>(g, queue);
}

}  // namespace sm90

void gemm_sm90(const Gemm& g, CudaQueue& queue) {
  if (g.x_dtype == DType::kBf16) return sm90::launch_for_columns<simt::bf16>(g, queue);
  sm90::launch_for_columns<float>(g, queue);
}

}  // namespace moepp::cuda
