#pragma once

#include "linear.h"
#include "norm_route_top_k.h"

namespace moepp {

// Attention's output projection, and the work up to the experts: rest.norm.delta is linear.out.
// Each output has the bits that the two ops give. No program records it: the
// compiler makes it of their parts.
struct LinearNormRouteTopKArgs {
  LinearArgs linear;
  NormRouteTopKArgs rest;

  template <class Part>
  void parts(const Part& part) {
    part(linear, 0);
    rest.parts([&](auto& args, int) { part(args, 1); });
  }
  template <class Visitor>
  void visit(Visitor& v) {
    parts([&](auto& args, int) { args.visit(v); });
  }
};

}  // namespace moepp
