// Shared by the tests of linear and grouped_gemm.
#pragma once

#include "bench.h"
#include "op_test.h"

namespace moepp::test {

// The kinds of products that a device tells apart: a GPU never asks whether it may round x.
inline std::vector<GemmKind> kinds(const OpTest& on) {
  std::vector<GemmKind> kinds;
  for (const GemmKind& kind : kGemmKinds) {
    if (!on.on_gpu() || !kind.may_round_x) kinds.push_back(kind);
  }
  if (on.device().holds_float8()) kinds.push_back({DType::kF8});
  return kinds;
}

// The treatment of rows of k activations.
template <class Args>
Inputs inputs_of(const OpTest& on, const Way<Args>& way, const GemmKind& kind, int64_t k) {
  return on.on_gpu() ? way.inputs : kind.inputs(on.isa(), k);
}

// The kernel that the device chooses.
template <class Args>
Way<Args> chosen_way(const OpTest& on, const Args& args) {
  Way<Args> way = own_way<Args>();
  way.name = "chosen";
  way.reads_bf16 = on.device().reads_bf16(args);
  if (on.on_gpu()) way.inputs = gpu::chosen_inputs(on.device(), args);
  return way;
}

// As OpTest::ways, on another card.
template <class Args>
std::vector<Way<Args>> ways_on(const OpTest& on, const Args& args, int multiprocessors) {
  return on.on_gpu() ? gpu::ways(on.device(), args, multiprocessors) : on.ways(args);
}

// Of a bench's row.
inline std::string note(const GemmKind& kind) {
  return kind.may_round_x ? ", x rounded" : "";
}
inline const char* instruction(const GemmKind& kind) {
  return kind.may_round_x ? "bf16_dot" : "";
}

}  // namespace moepp::test
