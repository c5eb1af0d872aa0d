#include "routing.h"

namespace moepp::bench {

// Bound by neither bytes nor operations: the row shows a time.
MOEPP_BENCH(route_top_k) {
  for (const RouterShape& s : run.sizes.routers()) {
    for (int64_t t : run.sizes.step_tokens) {
      RouteArrays arrays(run, s, t);
      const RouteTopKArgs args = arrays.args();
      run.row({"route_top_k " + std::to_string(s.experts()) + ", top " + std::to_string(s.top_k),
               DType::kF32,
               t,
               {static_cast<double>(4 * t * (s.experts() + 2 * s.constants)),
                static_cast<double>(4 * t * (4 * s.top_k + s.constants + 1))}},
              args, &test::check_route_top_k,
              [&](int64_t) { run.kernels().route_top_k(args, run.device().queue()); });
    }
  }
}

}  // namespace moepp::bench
