// The columns of a token's second product. The block that ends last sums the token's experts, and
// norms the sum. An epilogue of grouped_gemm/stream.cuh.
#pragma once

#include "cuda/kernels/combine/row.cuh"
#include "cuda/kernels/grouped_gemm/stream.cuh"

namespace moepp::cuda::stream {

struct ThenCombine : Columns {
  static constexpr int kBlocks = 2;
  static constexpr bool kEnds = true;
  CombinedRows rows;
  unsigned* arrived;

  SIMT_DEVICE void prefetch() const { prefetch_combine(rows); }
  SIMT_DEVICE unsigned* finished() const { return arrived; }
  SIMT_DEVICE void meanwhile() const {}
  SIMT_DEVICE void end() const { combine_row<4, kThreads>(rows, 0); }
};

}  // namespace moepp::cuda::stream
