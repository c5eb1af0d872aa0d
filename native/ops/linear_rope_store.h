#pragma once

#include "linear.h"
#include "rope_store.h"

namespace moepp {

// The projection of queries, keys and values, and the rotation of its result: store.qkv is
// linear.out. Each output has the bits that the two ops give. No program records it:
// the compiler makes it of the two.
struct LinearRopeStoreArgs {
  LinearArgs linear;
  RopeStoreArgs store;

  template <class Part>
  void parts(const Part& part) {
    part(linear, 0);
    part(store, 0);
  }
  template <class Visitor>
  void visit(Visitor& v) {
    parts([&](auto& args, int) { args.visit(v); });
  }
};

}  // namespace moepp
