#pragma once

#include "combine.h"
#include "grouped_gemm.h"

namespace moepp {

// The experts' second product, and the sum of a token's experts: combine.expert_out is gemm.out.
// Each output has the bits that the two ops give. No program records it: the
// compiler makes it of the two.
struct GroupedGemmCombineArgs {
  GroupedGemmArgs gemm;
  CombineArgs combine;

  template <class Part>
  void parts(const Part& part) {
    part(gemm, 0);
    part(combine, 1);
  }
  template <class Visitor>
  void visit(Visitor& v) {
    parts([&](auto& args, int) { args.visit(v); });
  }
};

}  // namespace moepp
