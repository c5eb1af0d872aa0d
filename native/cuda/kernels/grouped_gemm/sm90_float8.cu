// float8 weights times activations in e4m3 on Hopper's tensor cores (sm90.cuh): twice the rate of
// bf16, from half the bytes. x is quantised by a kernel of its own (float8_x.cu). Both operands
// travel in the same order of k within a line (weight_layout.h), so that it does not matter.
//
// Tensor cores sum 128 k, since they add with few bits. These sums are then multiplied by the
// scales of their row of x and of the weight, and added to others in f32. That takes a set of
// registers beside the sums. So the columns of a tile come in two halves.
// SASS sm_90a multiply_wgmma: QGMMA>=8 UTMALDG UBLKCP !HMMA !QMMA !LDL !STL registers=168 no-spills
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/kernels/grouped_gemm/sm90.cuh"

namespace moepp::cuda {

namespace sm90 {

// A stage of 256 columns has 8.4 million operations, 165 for each byte. In a cluster 244.
template <int Columns, int Blocks>
struct Float8 : Shape<Columns, Blocks> {
  using Element = unsigned char;
  static constexpr int kDepth = static_cast<int>(kQuantBlock), kStages = 3, kHalf = Columns / 2;
  struct Maps {
    simt::TensorMap x, weight, x_scales;  // x_scales [blocks, rows]
  };
  struct alignas(128) Scales {
    float x[kRows], weight[Columns];
  };

  static Maps maps(const Gemm& g, const Float8Rows& x, Window window, CudaQueue& queue) {
    constexpr auto kBytes = simt::Element::kU8;
    const auto pitch = static_cast<uint64_t>(g.pitch), rows = static_cast<uint64_t>(x.scale_rows);
    const auto group_rows =
        static_cast<uint64_t>(g.weight_rows + scale_rows(g.weight_rows) / kScaleRows);
    Maps maps;
    queue.check(simt::make_tensor_map(
        &maps.x, {x.numbers, kBytes, pitch, static_cast<uint64_t>(window.end - window.first), pitch,
                  kDepth, kPartRows, simt::Swizzle::k128}));
    queue.check(simt::make_tensor_map(
        &maps.weight, {g.weight, kBytes, pitch, static_cast<uint64_t>(g.groups) * group_rows, pitch,
                       kDepth, Columns / Blocks, simt::Swizzle::k128}));
    queue.check(
        simt::make_tensor_map(&maps.x_scales, {x.scales, simt::Element::kF32, rows, pitch / kDepth,
                                               rows * 4, kRows, 1, simt::Swizzle::kNone}));
    return maps;
  }

  // A group's scales stand where its next rows would.
  static SIMT_DEVICE int weight_row(const Gemm& g, int group) {
    constexpr int kUnit = static_cast<int>(kScaleRows);
    return group * (g.weight_rows + (g.weight_rows + kUnit - 1) / kUnit);
  }

  // The scales of a tile, 128 k after 128 k.
  struct ScaleLoads {
    const uint32_t* weight;
    int x;  // the first row in the map; -1: none
    uint32_t bytes;

    SIMT_DEVICE ScaleLoads(const Gemm& g, Window window, const Tile& tile)
        : x(tile.end > tile.row ? tile.row - window.first : -1) {
      const QuantisedGroup<Float8Weight> w(g.weight, tile.group, g.weight_rows, g.pitch);
      weight = w.scales + tile.column;
      bytes = static_cast<uint32_t>(min(w.scale_rows - tile.column, Columns)) * 4;
    }
    SIMT_DEVICE uint32_t stage_bytes() const { return bytes + (x >= 0 ? sizeof Scales::x : 0); }
    SIMT_DEVICE void start(const Gemm& g, const Maps& maps, int k, Scales& to,
                           simt::Mbarrier* full) {
      constexpr int kUnit = static_cast<int>(kScaleRows);
      simt::bulk_load(to.weight, weight, bytes, full);
      if (x >= 0) simt::tma_load(to.x, &maps.x_scales, x, k / kDepth, full);
      weight += (g.weight_rows + kUnit - 1) / kUnit * kUnit;
    }
  };

  // Adds the sums of 128 k, times both scales, to those of half of the columns. A thread has two
  // rows, and of each 8 columns two.
  static SIMT_DEVICE void add_scaled(const Scales& scales, int half, const float (&rows)[2],
                                     const float (&block)[kHalf / 2], float (&sum)[Columns / 2]) {
    const auto* columns = reinterpret_cast<const float2*>(scales.weight + half * kHalf);
#pragma unroll
    for (int j = 0; j < kHalf / 8; j++) {
      const float2 two = columns[j * 4 + static_cast<int>(threadIdx.x) % 4];
#pragma unroll
      for (int e = 0; e < 4; e++) {
        float& to = sum[half * kHalf / 2 + j * 4 + e];
        to = fmaf((e % 2 == 0 ? two.x : two.y) * rows[e / 2], block[j * 4 + e], to);
      }
    }
  }

  static SIMT_DEVICE void multiply(const Gemm& g, int part, Smem<Float8>& s, Ring<Float8>& ring,
                                   float (&sum)[Columns / 2]) {
    const int row = part * kPartRows + static_cast<int>(threadIdx.x) % 128 / 32 * kWarpRows +
                    static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (float& value : sum) value = 0.0f;
    for (int k = 0; k < g.k; k += kDepth) {
      simt::mbar_wait(&s.full[ring.stage], ring.parity);
      const Scales& scales = s.scales[ring.stage];
      const float rows[2] = {scales.x[row], scales.x[row + 8]};
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const unsigned char *x = s.x[ring.stage][part],
                            *weight = s.weight[ring.stage] + half * kHalf * kDepth;
        float block[kHalf / 2];
        simt::wgmma_fence();
#pragma unroll
        for (int i = 0; i < kDepth; i += 32) {
          simt::wgmma_e4m3<kHalf>(block, simt::wgmma_descriptor(x + i),
                                  simt::wgmma_descriptor(weight + i), i > 0);
        }
        simt::wgmma_commit();
        simt::wgmma_wait<0>();
        after_wgmma(block);
        add_scaled(scales, half, rows, block, sum);
      }
      __syncwarp();  // all lanes have read the scales
      release<Float8>(s, ring.stage);
      ring.advance();
    }
  }
};

}  // namespace sm90

void gemm_sm90_float8(const Gemm& g, CudaQueue& queue) {
  using namespace sm90;
  for_each_window(g, rows_at_once(g, queue), [&](Window window) {
    launch_for_rows<Float8>(g, quantise_x(g, true, window.first, window.end, queue), window, queue);
  });
}

}  // namespace moepp::cuda
