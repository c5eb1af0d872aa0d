// The columns of a token's output projection of attention. The block that ends last goes on to the
// experts: residual sum, norm, router, gating, sort. The others have nothing to do meanwhile, and
// ask L2 for the next layer's projection. An epilogue of grouped_gemm/stream.cuh.
#pragma once

#include "cuda/kernels/grouped_gemm/stream.cuh"
#include "cuda/kernels/router/norm_route.cuh"

namespace moepp::cuda::stream {

struct ThenRoute : Columns {
  static constexpr int kBlocks = 2;
  static constexpr bool kEnds = true;
  NormRoute r;
  WeightAhead ahead;

  // As many rows of the router are on their way as with a warp for each (norm_route_top_k.cu).
  struct Tile {
    static constexpr int kTokens = 1, kRows = 4, kElements = 4, kThreads = stream::kThreads;
  };

  SIMT_DEVICE void prefetch() const { prefetch_router(r.router); }
  SIMT_DEVICE unsigned* finished() const { return r.finished; }
  SIMT_DEVICE void meanwhile() const { ask_for_weight(ahead.data, ahead.bytes); }
  SIMT_DEVICE void end() const { route_tile<Tile>(r, 0); }
};

}  // namespace moepp::cuda::stream
