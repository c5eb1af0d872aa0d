// A row's elements, copied by the threads of a block.
#pragma once

#include "cuda/elements.cuh"

namespace moepp::cuda {

// N elements at a time, which divide `hidden`.
template <int N, class From, class To>
SIMT_DEVICE void copy_row(const From* from, To* to, int hidden) {
  for (int i = static_cast<int>(threadIdx.x) * N; i < hidden;
       i += static_cast<int>(blockDim.x) * N) {
    float v[N];
    load_elements(from + i, v);
    store_elements(to + i, v);
  }
}

// The rank whose range of ascending offsets holds i, which is below the last of them.
SIMT_DEVICE int rank_of(const int32_t* offsets, int i) {
  int rank = 0;
  while (offsets[rank + 1] <= i) rank++;
  return rank;
}

}  // namespace moepp::cuda
