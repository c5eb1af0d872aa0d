// Sums and prefix sums of integers over a block of kScanThreads, for kernels that sort.
#pragma once

#include "cuda/simt/simt.h"

namespace moepp::cuda {

constexpr int kScanThreads = 256, kScanWarps = kScanThreads / 32;

struct ScanMemory {
  uint32_t warps[kScanWarps];
};

// The sum of the threads before this one; of all, in every thread, *total. It begins and ends with
// the block together.
SIMT_DEVICE uint32_t block_scan(uint32_t value, ScanMemory* memory, uint32_t* total) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  uint32_t sum = value;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const uint32_t lower = __shfl_up_sync(simt::kFullMask, sum, static_cast<unsigned>(distance));
    if (lane >= distance) sum += lower;
  }
  if (lane == 31) memory->warps[warp] = sum;
  __syncthreads();
  uint32_t before = 0, all = 0;
#pragma unroll
  for (int w = 0; w < kScanWarps; w++) {
    before += w < warp ? memory->warps[w] : 0;
    all += memory->warps[w];
  }
  __syncthreads();
  *total = all;
  return before + sum - value;
}

SIMT_DEVICE uint32_t block_total(uint32_t value, ScanMemory* memory) {
  uint32_t total;
  block_scan(value, memory, &total);
  return total;
}

}  // namespace moepp::cuda
