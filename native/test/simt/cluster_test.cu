// Clusters of two blocks: loads for both, arrivals in the other's barriers, their common barrier.
#include "device_test.h"

namespace moepp::simt_test {

using simt::bf16;
using simt::Mbarrier;
using simt::TensorMap;

constexpr int kColumns = 64, kHalf = 8, kSteps = 5;

// One stage: each block loads half of it for both. It is free once both have read it.
struct HalvesSmem {
  alignas(1024) bf16 tile[2 * kHalf][kColumns];
  Mbarrier full, empty;
};

enum class Fault { kNone, kEarlyEnd, kNoWaitForOther };

// out[block][c]: the sum of column c over all rows.
template <Fault fault>
static __global__ void sum_halves(const __grid_constant__ TensorMap in, float* out) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<HalvesSmem>();
    const unsigned rank = simt::cluster_rank();
    if (threadIdx.x == 0) {
      simt::mbar_init(&s.full, 1);
      simt::mbar_init(&s.empty, 2 * 2);  // two warps of two blocks
      simt::fence_mbarrier_init();
    }
    simt::cluster_sync();
    if (fault == Fault::kEarlyEnd && rank == 1) return;
    float sum = 0.0f;
    for (int step = 0; step < kSteps; step++) {
      if (threadIdx.x == 64) {
        if (fault != Fault::kNoWaitForOther) simt::mbar_wait(&s.empty, step % 2 ^ 1);
        simt::mbar_arrive_expect_tx(&s.full, sizeof s.tile);
        simt::tma_load_multicast(s.tile[rank * kHalf], &in, 0,
                                 (2 * step + static_cast<int>(rank)) * kHalf, &s.full, 3);
      }
      if (threadIdx.x >= 64) continue;
      simt::mbar_wait(&s.full, step % 2);
      for (int row = 0; row < 2 * kHalf; row++) sum += simt::to_float(s.tile[row][threadIdx.x]);
      __syncwarp();
      if (threadIdx.x % 32 < 2) simt::mbar_arrive_in(&s.empty, threadIdx.x % 32);
    }
    if (threadIdx.x < 64) out[blockIdx.x * kColumns + threadIdx.x] = sum;
    simt::cluster_sync();
  }
}

static simt::Launch halves(unsigned blocks) {
  simt::Launch how = {dim3(blocks), dim3(96), sizeof(HalvesSmem)};
  how.cluster = 2;
  return how;
}

struct Halves {
  Shared<bf16> in{size_t{kSteps} * 2 * kHalf * kColumns};
  Shared<float> out{size_t{4} * kColumns};
  TensorMap map;

  Halves() {
    for (size_t i = 0; i < in.size(); i++) in[i] = simt::to_bf16(static_cast<float>(i % 13));
    EXPECT(simt::make_tensor_map(&map, {in.device(), simt::Element::kBf16, kColumns,
                                        kSteps * 2 * kHalf, kColumns * sizeof(bf16), kColumns,
                                        kHalf, simt::Swizzle::kNone}) == simt::kSuccess);
  }
};

MOEPP_TEST(simt_clusters_load_for_each_other) {
  if (!has_wgmma()) return;
  for_each_schedule([] {
    Halves h;
    EXPECT_RUNS(sum_halves<Fault::kNone>, halves(4), h.map, h.out.data());
    for (size_t c = 0; c < kColumns; c++) {
      float sum = 0.0f;
      for (size_t i = c; i < h.in.size(); i += kColumns) sum += simt::to_float(h.in[i]);
      for (size_t block = 0; block < 4; block++) EXPECT(h.out[block * kColumns + c] == sum);
    }
  });
}

#if SIMT_EMULATED
template <Fault fault>
static std::string failure(const simt::Launch& how) {
  Halves h;
  return run_kernel(sum_halves<fault>, how, h.map, h.out.data());
}

MOEPP_TEST(simt_clusters_show_faults) {
  const auto expect = [](const std::string& text, const char* words) {
    EXPECT_MESSAGE(text.find(words) != std::string::npos, text);
  };
  expect(failure<Fault::kEarlyEnd>(halves(2)), "block 1 of the cluster has ended");
  expect(failure<Fault::kNoWaitForOther>(halves(2)), "more arrivals");
  expect(failure<Fault::kNone>(halves(3)), "a cluster of 2 blocks, for a grid of 3");
  simt::Launch alone = halves(2);
  alone.cluster = 1;
  expect(failure<Fault::kNone>(alone), "the launch has no clusters");
}
#endif

}  // namespace moepp::simt_test
