// A token's sum of experts, residual and norm, by one block. The row of sums stays in shared memory
// between the sum and its norm, so each input is read once and each output written once. Terms with
// a coefficient of 0, and picks without an FFN expert, are not read at all.
#pragma once

#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/reduce.cuh"
#include "ops.h"

namespace moepp::cuda {

struct CombinedRows {
  const float *residual, *delta, *x, *expert_out, *coefficients, *expert_weights, *constants,
      *norm_weight;
  const int32_t* expert_rows;
  float *moe_output, *sum;
  Output out;
  int h, c, k;
  float eps;
  bool prefetch;
};

// A term of the sum: weight times the row [H] at `row`.
struct Term {
  const float* row;
  float weight;
  int used;
};

// Term i of token t, in the order of the sum: x, the constants, the picks.
SIMT_DEVICE Term term_of(const CombinedRows& r, int64_t t, int i) {
  if (i <= r.c) {
    const float weight = r.coefficients[t * (r.c + 1) + i];
    const float* row = i == 0 ? r.x + t * r.h : r.constants + static_cast<int64_t>(i - 1) * r.h;
    return {row, weight, weight != 0.0f ? 1 : 0};
  }
  const int64_t pick = t * r.k + i - r.c - 1;
  const int row = r.expert_rows[pick];
  if (row < 0) return {nullptr, 0.0f, 0};
  return {r.expert_out + static_cast<int64_t>(row) * r.h, r.expert_weights[pick], 1};
}

// By the first warp: the terms of the token that add something, in order. Returns how many.
SIMT_DEVICE int list_terms(const CombinedRows& r, int64_t t, Term* terms) {
  const int lane = threadIdx.x % 32, all = 1 + r.c + r.k;
  int count = 0;
  for (int base = 0; base < all; base += 32) {
    Term term = {nullptr, 0.0f, 0};
    if (base + lane < all) term = term_of(r, t, base + lane);
    const unsigned used = __ballot_sync(simt::kFullMask, term.used);
    if (term.used != 0) terms[count + __popc(used & ((1u << lane) - 1))] = term;
    count += __popc(used);
  }
  return count;
}

// Adds the first kTogether of `count` terms, in order, whose loads are on their way together.
constexpr int kTogether = 4;
template <int N>
SIMT_DEVICE void add_terms(const Term* terms, int count, int column, float (&sum)[N]) {
  float v[kTogether][N];
#pragma unroll
  for (int j = 0; j < kTogether; j++) {
    if (j < count) load_elements(terms[j].row + column, v[j]);
  }
#pragma unroll
  for (int j = 0; j < kTogether; j++) {
    if (j >= count) break;
    const float weight = terms[j].weight;
#pragma unroll
    for (int e = 0; e < N; e++) sum[e] = fmaf(weight, v[j][e], sum[e]);
  }
}

template <int N, int kThreads>
SIMT_DEVICE float sum_terms(const CombinedRows& r, int64_t first, const Term* terms, int count,
                            float* row) {
  float squares = 0.0f;
  for (int i = static_cast<int>(threadIdx.x) * N; i < r.h; i += kThreads * N) {
    float sum[N] = {}, v[N];
    for (int j = 0; j < count; j += kTogether) add_terms<N>(terms + j, count - j, i, sum);
    if (r.moe_output != nullptr) store_elements(r.moe_output + first + i, sum);
    load_elements(r.residual + first + i, v);
    if (r.delta != nullptr) {
      float delta[N];
      load_elements(r.delta + first + i, delta);
#pragma unroll
      for (int e = 0; e < N; e++) v[e] = v[e] + delta[e];
    }
#pragma unroll
    for (int e = 0; e < N; e++) sum[e] = v[e] + sum[e];
    if (r.sum != nullptr) store_elements(r.sum + first + i, sum);
    store_elements(row + i, sum);
#pragma unroll
    for (int e = 0; e < N; e++) squares = fmaf(sum[e], sum[e], squares);
  }
  return squares;
}

// Shared memory: the row [H, in fours], the block's partial sums, then the number of terms and the
// terms.
SIMT_HOST_DEVICE size_t row_bytes(int h) {
  return (static_cast<size_t>(h) + 3) / 4 * 16;
}
inline size_t combine_bytes(const CombinedRows& r, int threads) {
  return row_bytes(r.h) + static_cast<size_t>(threads / 16) * sizeof(float) +
         static_cast<size_t>(1 + r.c + r.k) * sizeof(Term);
}

// Asks L2 for the weights, before await_inputs().
SIMT_DEVICE void prefetch_combine(const CombinedRows& r) {
  if (r.norm_weight != nullptr) prefetch_weight(r.norm_weight, static_cast<int64_t>(r.h) * 4);
  prefetch_weight(r.constants, static_cast<int64_t>(r.c) * r.h * 4);
}

// Token t, by kThreads threads. N: elements of one access, 4 where rows are whole fours, else 1.
template <int N, int kThreads>
SIMT_DEVICE void combine_row(const CombinedRows& r, int64_t t) {
  constexpr int kWarps = kThreads / 32;
  auto* row = simt::smem<float>();
  auto* partial = row + row_bytes(r.h) / 4;
  auto* count = reinterpret_cast<int*>(partial + kWarps);
  auto* terms = reinterpret_cast<Term*>(partial + 2 * kWarps);
  const int64_t first = t * r.h;
  if (threadIdx.x < 32) {
    const int listed = list_terms(r, t, terms);
    if (threadIdx.x == 0) *count = listed;
  }
  simt::sync_threads<kThreads>();
  const float squares = sum_terms<N, kThreads>(r, first, terms, *count, row);
  if (r.norm_weight == nullptr) return;
  const float scale =
      1.0f / sqrtf(block_sum<kWarps>(squares, partial) / static_cast<float>(r.h) + r.eps);
  // this thread put there what it reads here
  for (int i = static_cast<int>(threadIdx.x) * N; i < r.h; i += kThreads * N) {
    float v[N], w[N];
    load_elements(row + i, v);
    load_elements(r.norm_weight + i, w);
#pragma unroll
    for (int e = 0; e < N; e++) v[e] = v[e] * scale * w[e];
    r.out.store(first + i, v);
  }
}

inline CombinedRows combined_rows(const CombineArgs& args, const CudaQueue& queue) {
  CombinedRows r = {};
  r.residual = args.residual->f32();
  r.delta = args.delta != nullptr ? args.delta->f32() : nullptr;
  r.x = args.x->f32();
  r.expert_out = args.expert_out->f32();
  r.coefficients = args.coefficients->f32();
  r.expert_weights = args.expert_weights->f32();
  r.constants = args.constants != nullptr ? args.constants->f32() : nullptr;
  r.norm_weight = args.norm_weight != nullptr ? args.norm_weight->f32() : nullptr;
  r.expert_rows = args.expert_rows->i32();
  r.moe_output = args.moe_output != nullptr ? args.moe_output->f32() : nullptr;
  r.sum = args.sum != nullptr ? args.sum->f32() : nullptr;
  if (args.out != nullptr) r.out = output_of(*args.out);
  r.h = static_cast<int>(args.x->shape[1]);
  r.c = static_cast<int>(args.coefficients->shape[1]) - 1;
  r.k = static_cast<int>(args.expert_rows->shape[1]);
  r.eps = args.eps;
  r.prefetch = queue.prefetches();
  return r;
}

}  // namespace moepp::cuda
