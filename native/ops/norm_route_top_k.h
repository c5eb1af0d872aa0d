#pragma once

#include "rms_norm.h"
#include "route_top_k.h"
#include "router_logits.h"

namespace moepp {

// The work between attention and the experts of a layer with a one-layer router, in one pass over
// the hidden state. router.x is norm.out, router.hidden is null, and route reads router's results.
// Each output equals that of the three ops, on the CPU bit by bit. No program records it: the
// compiler makes it of the three.
struct NormRouteTopKArgs {
  RmsNormArgs norm;
  RouterLogitsArgs router;
  RouteTopKArgs route;

  template <class Part>
  void parts(const Part& part) {
    part(norm, 0);
    part(router, 0);
    part(route, 0);
  }
  template <class Visitor>
  void visit(Visitor& v) {
    parts([&](auto& args, int) { args.visit(v); });
  }
};

}  // namespace moepp
