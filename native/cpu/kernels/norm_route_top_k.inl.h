#include "rms_norm.inl.h"
#include "route_top_k.inl.h"
#include "router_logits.inl.h"

// The inner functions of the three ops on blocks of tokens, whose rows are still in the cache when
// the router reads them. With fewer blocks than threads each op shares out its own work: few tokens
// are bound by the router's weights.
inline void norm_route_top_k(const NormRouteTopKArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const RmsNormArgs& norm = args.norm;
  const RouterLogitsArgs& router = args.router;
  const RouteTopKArgs& route = args.route;
  const int64_t tokens = norm.x->shape[0], blocks = (tokens + kRouterBlock - 1) / kRouterBlock;
  if (blocks < pool.threads()) {
    rms_norm(norm, queue);
    router_logits(router, queue);
    route_top_k(route, queue);
    return;
  }
  const int64_t rows = router.logits->shape[1] + constant_rows(router);
  const RouterInput input = {router.x->f32(), router.x->shape[1], 0, rows};
  pool.parallel_for(blocks, [&](int64_t block, int) {
    const int64_t first = block * kRouterBlock,
                  last = first + kRouterBlock < tokens ? first + kRouterBlock : tokens;
    norm_rows(norm, first, last);
    router_rows(router, input, first, last, 0, rows);
    route_rows(route, first, last);
  });
  sort_picks(route);
}
