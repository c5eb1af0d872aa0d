// The dot products of router_logits and norm_route_top_k (ops/router_logits.h), in the words of
// Router, below:
//
//   for (t = 0; t < tokens; t++) {
//     for (i = 0; i < e; i++)
//       logits[t][i] = dot(router[i], hidden ? hidden[t] : x[t]) + dot(map[i], previous[t]);
//     for (i = 0; i < xs; i++) scores[t][i] = dot(constant[i], x[t]);
//   }
//
// A warp takes a few tokens times a
// few rows; its lanes share out the columns. Each (token, row) has one partial sum per lane. The
// residual map's terms are added to it, and the lanes are summed at the end. The steps are the same
// whatever else is in the tile, so a token does not depend on the others.
#pragma once

#include "cuda/elements.cuh"
#include "cuda/reduce.cuh"
#include "ops.h"

namespace moepp::cuda {

struct Router {
  const float *x, *hidden, *previous, *router, *map, *constant;
  float *logits, *scores;
  int tokens, h, g, e, xs;  // xs: rows of the constant experts
};

// C::kTokens and C::kRows make up a warp's tile; C::kElements are loaded at once: 4 where rows of x
// and hidden are whole fours, else 1.

// The results of the tokens of a tile: [C::kTokens, e] and [C::kTokens, xs].
struct TileScores {
  float *logits, *scores;
};

// Rows [first, first + count) of one of the two weights: the router's, or the constant experts'.
struct RowGroup {
  const float *z, *weight, *map;
  float* out;
  int width, first, count, stride;
};

template <class C>
SIMT_DEVICE RowGroup row_group(const Router& r, int group, const TileScores& to) {
  const int router_groups = (r.e + C::kRows - 1) / C::kRows;
  if (group < router_groups) {
    const int first = group * C::kRows;
    return {r.hidden != nullptr ? r.hidden : r.x, r.router, r.map, to.logits, r.g, first,
            min(C::kRows, r.e - first),           r.e};
  }
  const int first = (group - router_groups) * C::kRows;
  return {r.x, r.constant, nullptr, to.scores, r.h, first, min(C::kRows, r.xs - first), r.xs};
}

// sums += z[t] . weight[row] over the lane's columns: N neighbours, then those 32 N further on.
// Tokens and rows past the last repeat it, so that nothing branches.
template <class C, int N>
SIMT_DEVICE void multiply(const float* z, const float* weight, int width,
                          const int (&t)[C::kTokens], const int (&row)[C::kRows],
                          float (&sums)[C::kTokens][C::kRows]) {
#pragma unroll 2
  for (int i = static_cast<int>(threadIdx.x) % 32 * N; i < width; i += 32 * N) {
    float w[C::kRows][N];
#pragma unroll
    for (int b = 0; b < C::kRows; b++)
      load_elements(weight + static_cast<int64_t>(row[b]) * width + i, w[b]);
#pragma unroll
    for (int a = 0; a < C::kTokens; a++) {
      float v[N];
      load_elements(z + static_cast<int64_t>(t[a]) * width + i, v);
#pragma unroll
      for (int b = 0; b < C::kRows; b++) {
#pragma unroll
        for (int n = 0; n < N; n++) sums[a][b] = fmaf(v[n], w[b][n], sums[a][b]);
      }
    }
  }
}

// The rows of a group times kTokens tokens from `first` on, whose inputs begin at z. By one warp.
template <class C>
SIMT_DEVICE void multiply_group(const Router& r, const RowGroup& rows, const float* z, int first) {
  const int count = min(C::kTokens, r.tokens - first), lane = static_cast<int>(threadIdx.x) % 32;
  int t[C::kTokens], row[C::kRows];
#pragma unroll
  for (int a = 0; a < C::kTokens; a++) t[a] = min(a, count - 1);
#pragma unroll
  for (int b = 0; b < C::kRows; b++) row[b] = rows.first + min(b, rows.count - 1);
  float sums[C::kTokens][C::kRows] = {};
  multiply<C, C::kElements>(z, rows.weight, rows.width, t, row, sums);
  if (rows.map != nullptr)
    multiply<C, 1>(r.previous + static_cast<int64_t>(first) * r.e, rows.map, r.e, t, row, sums);
#pragma unroll
  for (int a = 0; a < C::kTokens; a++) {
#pragma unroll
    for (int b = 0; b < C::kRows; b++) {
      const float sum = warp_sum(sums[a][b]);
      if (lane == 0 && a < count && b < rows.count) {
        rows.out[a * rows.stride + row[b]] = sum;
      }
    }
  }
}

// Host: groups of `rows` rows.
inline int count_groups(const Router& r, int rows) {
  return (r.e + rows - 1) / rows + (r.xs + rows - 1) / rows;
}

inline Router router_of(const RouterLogitsArgs& args) {
  Router r = {};
  r.x = args.x->f32();
  r.hidden = args.hidden != nullptr ? args.hidden->f32() : nullptr;
  r.previous = args.previous_logits != nullptr ? args.previous_logits->f32() : nullptr;
  r.router = args.router->f32();
  r.map = args.residual_map != nullptr ? args.residual_map->f32() : nullptr;
  r.constant = args.constant_router != nullptr ? args.constant_router->f32() : nullptr;
  r.logits = args.logits->f32();
  r.scores = args.constant_scores != nullptr ? args.constant_scores->f32() : nullptr;
  r.tokens = static_cast<int>(args.x->shape[0]);
  r.h = static_cast<int>(args.x->shape[1]);
  r.g = static_cast<int>(args.router->shape[1]);
  r.e = static_cast<int>(args.logits->shape[1]);
  r.xs = r.scores != nullptr ? static_cast<int>(args.constant_scores->shape[1]) : 0;
  return r;
}

}  // namespace moepp::cuda
