// THE list of ops. Everything that exists once per op is made of it: the kernel tables of the
// devices, the compiler, the build. native/ops/<op>.h has an op's contract: a plain struct of
// arguments, and the checks that a kernel trusts. A kernel is a function of its arguments and a
// queue.
//
// Dimension letters, the same everywhere:
//   T  tokens of the step            H  hidden size                D   head dim of queries and keys
//   B  sequences of the step         F  FFN expert intermediate    Hq  query heads
//   R  rows whose logits are wanted  E  experts, all kinds         Hkv key/value heads
//   V  vocabulary                    N  FFN experts                S   tokens per page (KV cache)
//   K  experts chosen per token      C  constant experts           M   pages per sequence
//   P  tokens of the step, of all ranks: T of a model that no others run with
//
// visit() declares each field once: its name, direction, shape and type. The checker, the reader of
// recorded programs and the memory planner are visitors (program/), so no field is described
// twice. In a shape, the first field that shows a letter binds it, and the others must agree.
// "2F" is twice F, "_" is anything. The words mean:
//   in, optional_in  read; an optional one may be absent (null)
//   out              written whole
//   optional_out     written whole unless null; null when no op reads it and no capture asks for it
//   weight           constant for the program's life, in the layout named
//   table            a weight of which rows are looked up; it has the layout of an op that
//                    multiplies by it, else rows
//   may_round        true if the program computes in bf16 (program/spec.h)
//   cache            the KV cache, read and written by page
//   ranks            the program's group of ranks (parallel/group.h)
// The type of in and out is a dtype, or kF32OrBf16. Programs record such a buffer as f32.
// If all of its fields do, a step may hold it as bf16, where every op that reads it would round it
// (Device::reads_bf16). Then the op that writes it rounds instead, to nearest, ties to even: no
// result changes.
//
// A fused op has parts() instead of fields: it calls part(args, stage) for each op that it is made
// of, in their order. A stage may write where only stages before it read. So a kernel writes a
// stage's outputs when all inputs of the stages before it have been read.
//
// Two functions beside the struct check what shapes cannot say. Each returns the fault in words, or
// "". An op that needs neither has neither.
//   broken_relation  relations between sizes and attributes, once, when a program is compiled; of
//                    sizes that only a step knows there are Symbols (program/spec.h)
//   step_fault       the integers of a step and the sizes of its cache, before each step
#pragma once

#include "ops/attention.h"
#include "ops/collect_tokens.h"
#include "ops/combine.h"
#include "ops/dispatch_tokens.h"
#include "ops/embedding.h"
#include "ops/gather_rows.h"
#include "ops/grouped_gemm.h"
#include "ops/grouped_gemm_combine.h"
#include "ops/head_linear.h"
#include "ops/latent_store.h"
#include "ops/linear.h"
#include "ops/linear_norm_route_top_k.h"
#include "ops/linear_rope_store.h"
#include "ops/norm_route_top_k.h"
#include "ops/rms_norm.h"
#include "ops/rope_store.h"
#include "ops/rope_table.h"
#include "ops/route_top_k.h"
#include "ops/router_logits.h"
#include "ops/top_logits.h"

// A name and a struct of each op, a line each: CMakeLists.txt reads them. A program records an OP.
// The compiler makes a FUSED_OP of others, for a device that has it.
#define MOEPP_OPS(OP, FUSED_OP)                              \
  OP(embedding, EmbeddingArgs)                               \
  OP(rms_norm, RmsNormArgs)                                  \
  OP(linear, LinearArgs)                                     \
  OP(rope_table, RopeTableArgs)                              \
  OP(rope_store, RopeStoreArgs)                              \
  FUSED_OP(linear_rope_store, LinearRopeStoreArgs)           \
  OP(head_linear, HeadLinearArgs)                            \
  OP(latent_store, LatentStoreArgs)                          \
  OP(attention, AttentionArgs)                               \
  OP(router_logits, RouterLogitsArgs)                        \
  OP(route_top_k, RouteTopKArgs)                             \
  FUSED_OP(norm_route_top_k, NormRouteTopKArgs)              \
  FUSED_OP(linear_norm_route_top_k, LinearNormRouteTopKArgs) \
  OP(dispatch_tokens, DispatchTokensArgs)                    \
  OP(grouped_gemm, GroupedGemmArgs)                          \
  OP(collect_tokens, CollectTokensArgs)                      \
  OP(combine, CombineArgs)                                   \
  FUSED_OP(grouped_gemm_combine, GroupedGemmCombineArgs)     \
  OP(gather_rows, GatherRowsArgs)                            \
  OP(top_logits, TopLogitsArgs)

namespace moepp {

template <class Args>
constexpr bool kIsFused = false;
#define MOEPP_IS_PLAIN(name, Args)
#define MOEPP_IS_FUSED(name, Args) \
  template <>                      \
  inline constexpr bool kIsFused<Args> = true;
MOEPP_OPS(MOEPP_IS_PLAIN, MOEPP_IS_FUSED)
#undef MOEPP_IS_PLAIN
#undef MOEPP_IS_FUSED

template <class Args>
std::string broken_relation(const Args&) {
  return {};
}
template <class Args>
std::string step_fault(const Args&, StepInputs&) {
  return {};
}

}  // namespace moepp
