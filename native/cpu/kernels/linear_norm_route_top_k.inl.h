#include "linear.inl.h"
#include "norm_route_top_k.inl.h"

// A call costs nothing here, and neither op could keep the other's rows in a cache.
inline void linear_norm_route_top_k(const LinearNormRouteTopKArgs& args, Queue& queue) {
  linear(args.linear, queue);
  norm_route_top_k(args.rest, queue);
}
