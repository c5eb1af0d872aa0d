// From attention to the experts in one pass over the hidden state. A block normalises its tokens in
// shared memory, its warps take the router's rows, and a warp per token gates it. With few tokens,
// in decode, each has a block. The block that ends last sorts the picks, so that one launch does
// all. With many, tiles of tokens share their loads of the router, then a second kernel sorts.
//
// Few tokens are bound by one multiprocessor reading the router. 24 rows of 1536 in f32 are 147 KB,
// 1.3 us at 64 bytes per clock of 1.75 GHz. Sharing the rows out among blocks would take less, but
// a round trip between blocks (0.7 us) before the gating more. A block per token reads them once
// per token. For 64 tokens that is 9.4 MB from L2. A router of more than kMostRouterBytes takes one
// multiprocessor longer than launches of the three ops, which share it out. So does one of more
// experts than a warp has registers for here.
// SASS * norm_and_route: LDG STG LDS STS FFMA SHFL !LDL !STL registers<=224 no-spills
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/router/norm_route.cuh"
#include "cuda/last_block.cuh"

namespace moepp::cuda {

namespace {

constexpr int kDecodeTokens = 64;

template <int TokenCount, int RowCount, int ElementCount>
struct Config {
  static constexpr int kTokens = TokenCount, kRows = RowCount;
  // of one load: 4 where rows are whole fours, else 1
  static constexpr int kElements = ElementCount;
  // a warp for each of 24 rows; for each group of rows
  static constexpr int kThreads = TokenCount == 1 ? 768 : 256;
};

// One block a multiprocessor: for more, the compiler spilled on sm_100 and sm_120.
template <class C>
__global__ void __launch_bounds__(C::kThreads, 1) norm_and_route(NormRoute r) {
  if (r.prefetch) prefetch_router(r.router);
  await_inputs();
  route_tile<C>(r, static_cast<int>(blockIdx.x) * C::kTokens);
  if (r.sorts && r.router.tokens > 1 &&
      is_last_block<C::kThreads>(r.finished, gridDim.x, simt::smem<int>()))
    sort_all(r.routing);
}

template <class C>
void launch(const NormRoute& r, CudaQueue& queue) {
  const dim3 grid(static_cast<unsigned>((r.router.tokens + C::kTokens - 1) / C::kTokens));
  const size_t tile = tile_bytes(C::kTokens, r.router),
               sort = r.sorts ? sort_bytes(r.routing, C::kThreads) : 0;
  queue.launch(norm_and_route<C>, {grid, dim3(C::kThreads), tile > sort ? tile : sort}, r);
}

// The largest tile that gives every multiprocessor one and takes no more shared memory than a block
// has unasked. The router's rows are read once per tile.
template <int N>
void launch_for_tokens(NormRoute& r, CudaQueue& queue) {
  // 8 rows of 1536, their sums and scores: sm_75 gives up to 64 KB
  constexpr size_t kTileBytes = 50 * 1024;
  const int tokens = r.router.tokens;
  r.sorts = tokens <= kDecodeTokens && tokens * r.routing.k <= Config<1, 1, N>::kThreads &&
            (tokens == 1 || r.finished != nullptr);
  if (!r.sorts && tokens >= 8 * queue.multiprocessors() && tile_bytes(8, r.router) <= kTileBytes) {
    return launch<Config<8, 4, N>>(r, queue);
  }
  if (!r.sorts && tokens >= queue.multiprocessors() && tile_bytes(4, r.router) <= kTileBytes) {
    return launch<Config<4, 4, N>>(r, queue);
  }
  launch<Config<1, 1, N>>(r, queue);
}

}  // namespace

void norm_route_top_k(const NormRouteTopKArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  if (!fits_a_block(router_of(args.router))) {
    rms_norm(args.norm, queue);
    router_logits(args.router, queue);
    return route_top_k(args.route, queue);
  }
  NormRoute r = norm_route_of(args, stream);
  r.router.h % 4 == 0 ? launch_for_tokens<4>(r, stream) : launch_for_tokens<1>(r, stream);
  if (!r.sorts) sort_tokens(r.routing, stream);
}

}  // namespace moepp::cuda
