// bf16 weights on Hopper's tensor cores (sm90.cuh).
// SASS sm_90a multiply_wgmma: HGMMA>=4 UTMALDG UBLKCP !HMMA !LDL !STL registers=168 no-spills
#include "cuda/kernels/grouped_gemm/sm90.cuh"

namespace moepp::cuda {

namespace sm90 {

// A stage of 256 columns has 4.2 million operations, 85 for each byte. In a cluster 128.
template <int Columns, int Blocks>
struct Bf16 : Shape<Columns, Blocks> {
  using Element = simt::bf16;
  static constexpr int kDepth = 64, kStages = 4;
  struct Maps {
    simt::TensorMap x, weight;
  };
  struct Scales {};

  static Maps maps(const Gemm& g, const void* x, Window window, CudaQueue& queue) {
    const auto pitch = static_cast<uint64_t>(g.pitch);
    Maps maps;
    queue.check(
        simt::make_tensor_map(&maps.x, {x, simt::Element::kBf16, static_cast<uint64_t>(g.k),
                                        static_cast<uint64_t>(window.end - window.first), pitch * 2,
                                        kDepth, kPartRows, simt::Swizzle::k128}));
    queue.check(simt::make_tensor_map(
        &maps.weight,
        {g.weight, simt::Element::kBf16, pitch, static_cast<uint64_t>(g.groups) * g.weight_rows,
         pitch * 2, kDepth, Columns / Blocks, simt::Swizzle::k128}));
    return maps;
  }
  static SIMT_DEVICE int weight_row(const Gemm& g, int group) { return group * g.weight_rows; }
  struct ScaleLoads {
    SIMT_DEVICE ScaleLoads(const Gemm&, Window, const Tile&) {}
    SIMT_DEVICE uint32_t stage_bytes() const { return 0; }
    SIMT_DEVICE void start(const Gemm&, const Maps&, int, Scales&, simt::Mbarrier*) {}
  };

  static SIMT_DEVICE void multiply(const Gemm& g, int part, Smem<Bf16>& s, Ring<Bf16>& ring,
                                   float (&sum)[Columns / 2]) {
    int last = -1;  // the stage whose products may still be running
    for (int k = 0; k < g.k; k += kDepth) {
      simt::mbar_wait(&s.full[ring.stage], ring.parity);
      const simt::bf16 *x = s.x[ring.stage][part], *weight = s.weight[ring.stage];
      simt::wgmma_fence();
#pragma unroll
      for (int i = 0; i < kDepth; i += 16) {
        simt::wgmma_bf16<Columns>(sum, simt::wgmma_descriptor(x + i),
                                  simt::wgmma_descriptor(weight + i), k + i > 0);
      }
      simt::wgmma_commit();
      simt::wgmma_wait<1>();
      if (last >= 0) release<Bf16>(s, last);
      last = ring.stage;
      ring.advance();
    }
    simt::wgmma_wait<0>();
    after_wgmma(sum);
    release<Bf16>(s, last);
  }
};

}  // namespace sm90

void gemm_sm90(const Gemm& g, CudaQueue& queue) {
  using namespace sm90;
  if (serves_as_it_is(g)) return launch_for_rows<Bf16>(g, g.x, {0, g.rows}, queue);
  for_each_window(g, rows_at_once(g, queue), [&](Window window) {
    launch_for_rows<Bf16>(g, copy_x(g, window.first, window.end, queue), window, queue);
  });
}

}  // namespace moepp::cuda
