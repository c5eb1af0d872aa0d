// Five small kernels, built as real ones are. Each can be made with one bug of a kind that kernels
// really have. seeded_bugs_test.cc shows which build of the emulation notices which.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::simt_test {

using simt::bf16;
using simt::Mbarrier;
using simt::TensorMap;

enum class Bug {
  kNone,
  // tiled_gemm: cp.async ring, ldmatrix, mma
  kNoBarrier,
  kShortWait,
  kEarlyLoad,
  kUnswizzledB,
  kShortSmem,
  kNoRowCheck,
  kMisalignedLdmatrix,
  kNoColumnCheck,
  // count_best: shuffles, shared histogram
  kDivergentShuffle,
  kWrongMask,
  kSkippedBarrier,
  kPlainAdd,
  kNoBarrierAfterClear,
  kNotCleared,
  kNoSyncwarp,
  kBlocksCollide,
  // piped_gemm: TMA, mbarriers, wgmma
  kWrongParity,
  kShortExpect,
  kFreedEarly,
  kNoFullWait,
  kDescriptorOff,
  kNoWgmmaFence,
  kReadEarly,
  kNoInitBarrier,
  kNoStoreWait,
  kStoreRace,
  kNoInitFence,
  kNoProxyFence,
  kOneProxyFence,
  kLateProxyFence,
  kSingleTry,
  // sum_last: blocks that leave sums to the last one
  kBlockFence,
  kNoFence,
  kEarlyFence,
  // scale, twice: a kernel reads what the one before wrote
  kStreamedLoad,
};

// ---- c [M, N] = a [M, K] b [N, K]^T, K a multiple of 8: 32 x 32 tiles, 4 warps of 16 x 16 ----
constexpr int kTile = 32, kDepth = 32, kStages = 3;
struct TiledSmem {
  alignas(128) bf16 a[kStages][kTile * kDepth];
  bf16 b[kStages][kTile * kDepth];
};
// 16-byte unit `unit` of a row of 64 bytes, exchanged so that eight rows meet all banks.
SIMT_DEVICE int swizzled_unit(int row, int unit) {
  return row * kDepth + (unit ^ (row / 2 % 4)) * 8;
}

template <Bug bug>
SIMT_DEVICE void load_tile(bf16* tile, const bf16* from, int first_row, int rows, int k0, int k) {
  const int row = threadIdx.x / 4, unit = threadIdx.x % 4, column = k0 + unit * 8;
  const bool inside = (bug == Bug::kNoRowCheck || first_row + row < rows) &&
                      (bug == Bug::kNoColumnCheck || column < k);
  simt::cp_async_zfill<16>(tile + swizzled_unit(row, unit),
                           from + static_cast<int64_t>(first_row + row) * k + column,
                           inside ? 16 : 0);
}

template <Bug bug>
SIMT_DEVICE void multiply_tile(const bf16* a, const bf16* b, float (&d)[2][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m0 = warp / 2 * 16,
            n0 = warp % 2 * 16;
#pragma unroll
  for (int k = 0; k < kDepth / 16; k++) {
    uint32_t fa[4], fb[2][2];
    const int shift = bug == Bug::kMisalignedLdmatrix ? 4 : 0;
    simt::ldmatrix_x4(fa[0], fa[1], fa[2], fa[3],
                      a + shift + swizzled_unit(m0 + lane % 16, 2 * k + lane / 16));
    const int row = n0 + lane / 16 * 8 + lane % 8, unit = 2 * k + lane / 8 % 2;
    const bf16* from =
        bug == Bug::kUnswizzledB ? b + row * kDepth + unit * 8 : b + swizzled_unit(row, unit);
    simt::ldmatrix_x4(fb[0][0], fb[0][1], fb[1][0], fb[1][1], from);
    simt::mma_bf16(d[0], fa, fb[0]);
    simt::mma_bf16(d[1], fa, fb[1]);
  }
}

template <Bug bug>
static __global__ void __launch_bounds__(128)
    tiled_gemm(const bf16* a, const bf16* b, float* c, int m, int n, int k) {
  auto& s = *simt::smem<TiledSmem>();
  const int m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile, steps = (k + kDepth - 1) / kDepth;
  auto load = [&](int step) {
    if (step < steps) {
      load_tile<bug>(s.a[step % kStages], a, m0, m, step * kDepth, k);
      load_tile<bug>(s.b[step % kStages], b, n0, n, step * kDepth, k);
    }
    simt::cp_async_commit();
  };
  float d[2][4] = {};
  for (int step = 0; step < kStages - 1; step++) load(step);
  for (int step = 0; step < steps; step++) {
    simt::cp_async_wait<bug == Bug::kShortWait ? kStages - 1 : kStages - 2>();
    if (bug != Bug::kNoBarrier) __syncthreads();
    load(bug == Bug::kEarlyLoad ? step + kStages : step + kStages - 1);
    multiply_tile<bug>(s.a[step % kStages], s.b[step % kStages], d);
  }
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < 8; i++) {
    const int row = m0 + warp / 2 * 16 + lane / 4 + i / 2 % 2 * 8,
              column = n0 + warp % 2 * 16 + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (row < m && column < n) c[static_cast<int64_t>(row) * n + column] = d[i / 4][i % 4];
  }
}

// ---- best[t] = the greatest of 64 logits of token t, the lower index first; counts[e] = how many
// tokens it is best for ----
constexpr int kChoices = 64;
struct CountSmem {
  int histogram[kChoices];
  float row[2][kChoices];  // per warp
};

template <Bug bug>
SIMT_DEVICE int best_of_row(const float* row, int lane) {
  int best = row[lane] >= row[lane + 32] ? lane : lane + 32;
  float value = row[best];
  if (bug == Bug::kDivergentShuffle && lane >= 16) return best;
  const unsigned mask = bug == Bug::kWrongMask ? 0xffffu : simt::kFullMask;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(mask, value, distance);
    const int index = __shfl_xor_sync(mask, best, distance);
    if (other > value || (other == value && index < best)) value = other, best = index;
  }
  return best;
}

template <Bug bug>
static __global__ void __launch_bounds__(64)
    count_best(const float* logits, int tokens, int* best, int* counts) {
  auto& s = *simt::smem<CountSmem>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (bug != Bug::kNotCleared) s.histogram[threadIdx.x] = 0;
  if (bug != Bug::kNoBarrierAfterClear) __syncthreads();
  for (int t = blockIdx.x * 2 + warp; t < tokens; t += gridDim.x * 2) {
    // The row goes through shared memory in another order of lanes.
    for (int i = 0; i < 2; i++) s.row[warp][2 * lane + i] = logits[t * kChoices + 2 * lane + i];
    if (bug != Bug::kNoSyncwarp) __syncwarp();
    const int choice = best_of_row<bug>(s.row[warp], lane);
    if (lane == 0) {
      best[t] = choice;
      if (bug == Bug::kPlainAdd) {
        s.histogram[choice] += 1;
      } else {
        atomicAdd(&s.histogram[choice], 1);
      }
    }
    __syncwarp();
  }
  if (bug != Bug::kSkippedBarrier || warp == 0) __syncthreads();
  if (bug == Bug::kBlocksCollide) {
    counts[threadIdx.x] += s.histogram[threadIdx.x];
  } else {
    atomicAdd(&counts[threadIdx.x], s.histogram[threadIdx.x]);
  }
}

// ---- c [M, 64] = a [M, K] b [64, K]^T: one warp loads by TMA, a warpgroup multiplies and stores
// by TMA ----
constexpr int kPipeStages = 2;
struct PipedSmem {
  alignas(1024) bf16 a[kPipeStages][64 * 64];
  alignas(1024) bf16 b[kPipeStages][64 * 64];
  alignas(1024) float out[2][64 * 32];
  Mbarrier full[kPipeStages], empty[kPipeStages];
};

template <Bug bug>
SIMT_DEVICE void load_pipe(PipedSmem& s, const TensorMap* a, const TensorMap* b, int row,
                           int steps) {
  for (int step = 0; step < steps; step++) {
    const int stage = step % kPipeStages, round = step / kPipeStages;
    simt::mbar_wait(&s.empty[stage], (round + (bug == Bug::kWrongParity ? 0 : 1)) % 2);
    simt::mbar_arrive_expect_tx(
        &s.full[stage], bug == Bug::kShortExpect ? sizeof s.a[0] : sizeof s.a[0] + sizeof s.b[0]);
    simt::tma_load(s.a[stage], a, step * 64, row, &s.full[stage]);
    simt::tma_load(s.b[stage], b, step * 64, 0, &s.full[stage]);
  }
}

template <Bug bug>
SIMT_DEVICE void multiply_pipe(PipedSmem& s, int steps, float (&d)[32]) {
  for (int step = 0; step < steps; step++) {
    const int stage = step % kPipeStages, round = step / kPipeStages;
    if (bug == Bug::kSingleTry) {
      simt::mbar_try_wait(&s.full[stage], round % 2);
    } else if (bug != Bug::kNoFullWait) {
      while (!simt::mbar_try_wait(&s.full[stage], round % 2)) {
      }
    }
    if (bug != Bug::kNoWgmmaFence) simt::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int kb = bug == Bug::kDescriptorOff ? (k + 1) % 4 : k;
      simt::wgmma_bf16<64>(d, simt::wgmma_descriptor(s.a[stage] + 16 * k),
                           simt::wgmma_descriptor(s.b[stage] + 16 * kb), step + k > 0);
    }
    simt::wgmma_commit();
    if (bug == Bug::kFreedEarly) simt::mbar_arrive(&s.empty[stage]);
    if (bug != Bug::kReadEarly || step + 1 < steps) simt::wgmma_wait<0>();
    if (bug != Bug::kFreedEarly) simt::mbar_arrive(&s.empty[stage]);
  }
}

// Two boxes of 32 columns.
template <Bug bug>
SIMT_DEVICE void store_pipe(PipedSmem& s, const TensorMap* c, int row, const float (&d)[32]) {
  const int t = threadIdx.x;
  for (int half = 0; half < 2; half++) {
    float* out = s.out[bug == Bug::kStoreRace ? 0 : half];
    for (int i = 0; i < 16; i++) {
      const int r = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8,
                column = i / 4 * 8 + t % 4 * 2 + i % 2;
      out[r * 32 + column] = d[16 * half + i];
    }
    const bool fences = bug == Bug::kOneProxyFence    ? t == 0
                        : bug == Bug::kLateProxyFence ? false
                                                      : bug != Bug::kNoProxyFence;
    if (fences) simt::fence_proxy_async();
    if (t == 0) {
      simt::barrier_sync(1 + half, 128);
    } else {
      simt::barrier_arrive(1 + half, 128);
      if (bug == Bug::kLateProxyFence) simt::fence_proxy_async();
    }
    if (t == 0) {
      simt::tma_store(c, 32 * half, row, out);
      simt::tma_store_commit();
    }
  }
  if (bug != Bug::kNoStoreWait && t == 0) simt::tma_store_wait<0>();
}

template <Bug bug>
static __global__ void __launch_bounds__(160)
    piped_gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
               const __grid_constant__ TensorMap c, int k) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<PipedSmem>();
    const int steps = (k + 63) / 64, row = blockIdx.x * 64;
    if (threadIdx.x == 0) {
      for (int i = 0; i < kPipeStages; i++)
        simt::mbar_init(&s.full[i], 1), simt::mbar_init(&s.empty[i], 128);
      if (bug != Bug::kNoInitFence) simt::fence_mbarrier_init();
    }
    if (bug != Bug::kNoInitBarrier) __syncthreads();
    if (threadIdx.x >= 128) {
      if (threadIdx.x == 128) load_pipe<bug>(s, &a, &b, row, steps);
      return;
    }
    float d[32];
    multiply_pipe<bug>(s, steps, d);
    store_pipe<bug>(s, &c, row, d);
    if (bug == Bug::kReadEarly) simt::wgmma_wait<0>();
  }
}

// ---- total = the sum of 32 values of each block, by the last block ----
template <Bug bug>
__global__ void __launch_bounds__(32)
    sum_last(const int* values, int* sums, unsigned* finished, int* total) {
  const int sum = simt::reduce_add(simt::kFullMask, values[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x != 0) return;
  if (bug == Bug::kEarlyFence) __threadfence();
  sums[blockIdx.x] = sum;
  if (bug == Bug::kBlockFence) {
    __threadfence_block();
  } else if (bug != Bug::kNoFence && bug != Bug::kEarlyFence) {
    __threadfence();
  }
  if (atomicAdd(finished, 1) + 1 != gridDim.x) return;
  __threadfence();
  int all = 0;
  for (unsigned b = 0; b < gridDim.x; b++) all += sums[b];
  *total = all;
}

// ---- out[i] = scales[i] x[i], four at a time; launched twice, one result the other's x ----
template <Bug bug>
__global__ void __launch_bounds__(32)
    scale_values(const uint4* scales, const uint4* x, uint4* out) {
  simt::wait_for_dependencies();
  simt::launch_dependents();
  const uint4 by = simt::load_stream(scales + threadIdx.x);
  const uint4 v = bug == Bug::kStreamedLoad ? simt::load_stream(x + threadIdx.x)
                                            : simt::load_l2(x + threadIdx.x);
  out[threadIdx.x] = make_uint4(by.x * v.x, by.y * v.y, by.z * v.z, by.w * v.w);
}

}  // namespace moepp::simt_test
