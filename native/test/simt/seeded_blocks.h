// A sixth kernel for seeded_bugs_test.cc: e4m3 by wgmma, whose sums of 128 k are scaled and added.
#pragma once

#include "seeded_bugs_run.h"

namespace moepp::simt_test {

enum class BlockBug { kNone, kAddedEarly, kOneFence, kBf16Steps, kFreedScales };

// ---- c [64, 128] = the sum over blocks i of 128 k: scales [i, 128] times a [64, K] b [128, K]^T.
// One warp loads by TMA ----
constexpr int kBlockStages = 2, kBlockColumns = 128;
struct BlocksSmem {
  alignas(1024) unsigned char a[kBlockStages][64 * 128];
  alignas(1024) unsigned char b[kBlockStages][kBlockColumns * 128];
  alignas(16) float scales[kBlockStages][kBlockColumns];
  Mbarrier full[kBlockStages], empty[kBlockStages];
};

SIMT_DEVICE void load_blocks(BlocksSmem& s, const TensorMap* a, const TensorMap* b,
                             const float* scales, int blocks) {
  for (int i = 0; i < blocks; i++) {
    const int stage = i % kBlockStages;
    simt::mbar_wait(&s.empty[stage], (i / kBlockStages + 1) % 2);
    simt::mbar_arrive_expect_tx(&s.full[stage], sizeof s.a[0] + sizeof s.b[0] + sizeof s.scales[0]);
    simt::tma_load(s.a[stage], a, i * 128, 0, &s.full[stage]);
    simt::tma_load(s.b[stage], b, i * 128, 0, &s.full[stage]);
    simt::bulk_load(s.scales[stage], scales + i * kBlockColumns, sizeof s.scales[0],
                    &s.full[stage]);
  }
}

template <BlockBug bug>
SIMT_DEVICE void add_block(BlocksSmem& s, int i, float (&sum)[kBlockColumns / 2]) {
  const int stage = i % kBlockStages;
  float block[kBlockColumns / 2];
  simt::mbar_wait(&s.full[stage], i / kBlockStages % 2);
  if (bug != BlockBug::kOneFence || i == 0) simt::wgmma_fence();
#pragma unroll
  for (int k = 0; k < 128; k += 32) {
    const int at = bug == BlockBug::kBf16Steps ? k / 2 : k;
    simt::wgmma_e4m3<kBlockColumns>(block, simt::wgmma_descriptor(s.a[stage] + at),
                                    simt::wgmma_descriptor(s.b[stage] + at), k > 0);
  }
  simt::wgmma_commit();
  if (bug != BlockBug::kAddedEarly) simt::wgmma_wait<0>();
  if (bug == BlockBug::kFreedScales) simt::mbar_arrive(&s.empty[stage]);
  for (int j = 0; j < kBlockColumns / 2; j++)
    sum[j] += s.scales[stage][j / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + j % 2] * block[j];
  if (bug == BlockBug::kAddedEarly) simt::wgmma_wait<0>();
  if (bug != BlockBug::kFreedScales) simt::mbar_arrive(&s.empty[stage]);
}

template <BlockBug bug>
static __global__ void __launch_bounds__(160)
    blocks_gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                const float* scales, int blocks, float* c) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<BlocksSmem>();
    if (threadIdx.x == 0) {
      for (int i = 0; i < kBlockStages; i++)
        simt::mbar_init(&s.full[i], 1), simt::mbar_init(&s.empty[i], 128);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
      if (threadIdx.x == 128) load_blocks(s, &a, &b, scales, blocks);
      return;
    }
    const int t = static_cast<int>(threadIdx.x);
    float sum[kBlockColumns / 2] = {};
    for (int i = 0; i < blocks; i++) add_block<bug>(s, i, sum);
    for (int j = 0; j < kBlockColumns / 2; j++) {
      const int row = t / 32 * 16 + t % 32 / 4 + j / 2 % 2 * 8,
                column = j / 4 * 8 + t % 4 * 2 + j % 2;
      c[row * kBlockColumns + column] = sum[j];
    }
  }
}

// Integers from -3 to 3, and as e4m3.
inline int integer_at(size_t i, unsigned seed) {
  return static_cast<int>(((static_cast<unsigned>(i) * 2654435761u + seed) >> 13) % 7) - 3;
}
inline unsigned char e4m3_at(size_t i, unsigned seed) {
  constexpr unsigned char kCodes[] = {0xc4, 0xc0, 0xb8, 0x00, 0x38, 0x40, 0x44};
  return kCodes[integer_at(i, seed) + 3];
}

inline int run_blocks(void (*kernel)(TensorMap, TensorMap, const float*, int, float*)) {
  using simt::Element;
  using simt::Swizzle;
  constexpr size_t kBlocks = 5, kDepth = kBlocks * 128;
  Shared<unsigned char> a(64 * kDepth), b(kBlockColumns * kDepth);
  Shared<float> scales(kBlocks * kBlockColumns), c(64 * kBlockColumns, NAN);
  for (size_t i = 0; i < a.size(); i++) a[i] = e4m3_at(i, 1);
  for (size_t i = 0; i < b.size(); i++) b[i] = e4m3_at(i, 99);
  for (size_t i = 0; i < scales.size(); i++) scales[i] = static_cast<float>(i % 7 + i / 128 + 1);
  TensorMap ma, mb;
  (void)simt::make_tensor_map(
      &ma, {a.device(), Element::kU8, kDepth, 64, kDepth, 128, 64, Swizzle::k128});
  (void)simt::make_tensor_map(&mb, {b.device(), Element::kU8, kDepth, kBlockColumns, kDepth, 128,
                                    kBlockColumns, Swizzle::k128});
  const std::string text = run_kernel(kernel, {dim3(1), dim3(160), sizeof(BlocksSmem)}, ma, mb,
                                      scales.data(), static_cast<int>(kBlocks), c.data());
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  for (size_t i = 0; i < c.size(); i++) {
    const size_t row = i / kBlockColumns, column = i % kBlockColumns;
    float expected = 0.0f;  // exact
    for (size_t k = 0; k < kDepth; k++) {
      const int product = integer_at(row * kDepth + k, 1) * integer_at(column * kDepth + k, 99);
      expected += scales[k / 128 * kBlockColumns + column] * static_cast<float>(product);
    }
    if (c[i] != expected) return kWrongResult;
  }
  return 0;
}

}  // namespace moepp::simt_test
