// A block's ring of weight pages in shared memory, which bulk copies fill as far ahead as there are
// free ones. All warps take the pages in the order in which they were filled.
//
// A page has the weights that a block of stream.cuh takes at a time: 16 bytes for each lane and
// each of its warp's four rows. These are 32 / splits rows of 512 splits bytes, 16 KB in all.
#pragma once

#include "cuda/kernels/grouped_gemm/stream.cuh"

namespace moepp::cuda {

struct Ring {
  static constexpr int kFewest = 3, kMost = 12;
  static constexpr int kRowBytes = 32 * 16;  // times splits: of a row in a page
  static constexpr int kPageBytes = stream::kWarps * stream::kWeightRows * kRowBytes;
  // Of the pages' beginning, as bulk copies want it.
  static constexpr size_t kAlignment = 128;

  struct Place {
    int page, parity;
    SIMT_DEVICE void advance(int pages) {
      if (++page < pages) return;
      page = 0;
      parity ^= 1;
    }
  };

  unsigned char* pages;
  simt::Mbarrier *full, *empty;
  int count;
  int ahead = 0;  // of the warp that fills: pages that it has not taken yet
  Place filled = {0, 0}, taken = {0, 0};

  SIMT_HOST_DEVICE static size_t bytes(int pages) {
    return static_cast<size_t>(pages) * (kPageBytes + 2 * sizeof(simt::Mbarrier));
  }
  SIMT_DEVICE Ring(unsigned char* memory, int pages_of_it)
      : pages(memory),
        full(reinterpret_cast<simt::Mbarrier*>(memory + pages_of_it * kPageBytes)),
        empty(full + pages_of_it),
        count(pages_of_it) {}

  // By one thread; then a barrier of the block.
  SIMT_DEVICE void init() const {
    for (int i = 0; i < count; i++) {
      simt::mbar_init(full + i, 1);
      simt::mbar_init(empty + i, stream::kWarps);
    }
    simt::fence_mbarrier_init();
  }

  // By all warps: the units of this lane, if `there`, from byte `at` of four rows on.
  SIMT_DEVICE void take(int row, int row_bytes, int at, bool there,
                        uint4 (&units)[stream::kWeightRows]) {
    simt::mbar_wait(full + taken.page, taken.parity);
    const unsigned char* from = pages + taken.page * kPageBytes + row * row_bytes + at;
#pragma unroll
    for (int j = 0; j < stream::kWeightRows; j++) {
      if (there) units[j] = *reinterpret_cast<const uint4*>(from + j * row_bytes);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) simt::mbar_arrive(empty + taken.page);
    taken.advance(count);
    ahead--;
  }

  // One page less than there are: the other warps may not have taken the last one yet.
  SIMT_DEVICE bool has_room() const {
    return ahead < count - 1;
  }
  // By one warp, if there is room: `bytes` of each of `rows` rows, lane r those of row r.
  SIMT_DEVICE void fill(const unsigned char* from, int rows, int row_bytes, int bytes) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane == 0) {
      simt::mbar_wait(empty + filled.page, filled.parity ^ 1);
      simt::mbar_arrive_expect_tx(full + filled.page, static_cast<uint32_t>(rows * bytes));
    }
    __syncwarp();
    if (lane < rows) {
      simt::bulk_load(pages + filled.page * kPageBytes + lane * row_bytes, from,
                      static_cast<uint32_t>(bytes), full + filled.page);
    }
    filled.advance(count);
    ahead++;
  }
};

}  // namespace moepp::cuda
