#pragma once
#include "rows.inl.h"

// The loop of ops/router_logits.h as tiles: dot products of a few tokens with a few router rows.
// Each (token, row) has one vector of partial sums along H. The residual map's terms are added to
// it, and its lanes are summed at the end. The steps are the same whatever else is in the tile.

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kRouterTokens = 4;  // 4 x 6 sums in 32 registers
#else
constexpr int kRouterTokens = 2;  // 2 x 6 sums in 16 registers
#endif
constexpr int kRouterRows = 6;

// The factors of the rows [first_row, last_row). Row r < E is the router's, the others the constant
// experts'.
struct RouterInput {
  const float* z;
  int64_t width;  // of z and of the weights
  int64_t first_row, last_row;
};

struct RouterRow {
  const float* weight;
  const float* residual;  // the residual map's row, or null
  float* out;
  int64_t out_stride;
};

// The rows of the constant experts.
inline int64_t constant_rows(const RouterLogitsArgs& args) {
  return args.constant_scores != nullptr ? args.constant_scores->shape[1] : 0;
}

inline RouterRow router_row(const RouterLogitsArgs& args, int64_t r) {
  const int64_t e = args.logits->shape[1], x = constant_rows(args);
  if (r >= e) {
    const int64_t h = args.constant_router->shape[1];
    return {args.constant_router->f32() + (r - e) * h, nullptr,
            args.constant_scores->f32() + (r - e), x};
  }
  return {args.router->f32() + r * args.router->shape[1],
          args.residual_map != nullptr ? args.residual_map->f32() + r * e : nullptr,
          args.logits->f32() + r, e};
}

template <int T, int R>
void router_tile(const RouterLogitsArgs& args, const RouterInput& input, int64_t t, int64_t r) {
  RouterRow rows[R];
  Vf sums[T][R];
  MOEPP_UNROLL
  for (int b = 0; b < R; b++) rows[b] = router_row(args, r + b);
  MOEPP_UNROLL
  for (int a = 0; a < T; a++) {
    MOEPP_UNROLL
    for (int b = 0; b < R; b++) sums[a][b] = set1(0.0f);
  }
  const float* z = input.z + t * input.width;
  int64_t i = 0;
  for (; i + kLanes <= input.width; i += kLanes) {
    Vf tokens[T];
    MOEPP_UNROLL
    for (int a = 0; a < T; a++) tokens[a] = load(z + a * input.width + i);
    MOEPP_UNROLL
    for (int b = 0; b < R; b++) {
      const Vf weight = load(rows[b].weight + i);
      MOEPP_UNROLL
      for (int a = 0; a < T; a++) sums[a][b] = fma(tokens[a], weight, sums[a][b]);
    }
  }
  const int n = static_cast<int>(input.width - i);
  const int64_t e = args.logits->shape[1];
  MOEPP_UNROLL
  for (int b = 0; b < R; b++) {
    const Vf weight = load_n(rows[b].weight + i, n);
    MOEPP_UNROLL
    for (int a = 0; a < T; a++)
      sums[a][b] = fma(load_n(z + a * input.width + i, n), weight, sums[a][b]);
    if (rows[b].residual == nullptr) continue;
    for (int64_t j = 0; j < e; j += kLanes) {
      const int m = e - j < kLanes ? static_cast<int>(e - j) : kLanes;
      const Vf map = load_n(rows[b].residual + j, m);
      MOEPP_UNROLL
      for (int a = 0; a < T; a++)
        sums[a][b] = fma(load_n(args.previous_logits->f32() + (t + a) * e + j, m), map, sums[a][b]);
    }
  }
  MOEPP_UNROLL
  for (int b = 0; b < R; b++) {
    MOEPP_UNROLL
    for (int a = 0; a < T; a++) rows[b].out[(t + a) * rows[b].out_stride] = sum(sums[a][b]);
  }
}

template <int R>
void router_tokens(const RouterLogitsArgs& args, const RouterInput& input, int64_t first,
                   int64_t last, int64_t r) {
  int64_t t = first;
  for (; t + kRouterTokens <= last; t += kRouterTokens)
    router_tile<kRouterTokens, R>(args, input, t, r);
  for (; t < last; t++) router_tile<1, R>(args, input, t, r);
}

inline void router_rows(const RouterLogitsArgs& args, const RouterInput& input, int64_t first,
                        int64_t last, int64_t r, int64_t r_last) {
  for (; r + kRouterRows <= r_last; r += kRouterRows)
    router_tokens<kRouterRows>(args, input, first, last, r);
  for (; r + 2 <= r_last; r += 2) router_tokens<2>(args, input, first, last, r);
  if (r < r_last) router_tokens<1>(args, input, first, last, r);
}

// tokens whose inputs stay in the second-level cache while all weights pass
constexpr int64_t kRouterBlock = 16;

inline void router_logits(const RouterLogitsArgs& args, Queue& queue) {
  constexpr int64_t kSmallJob = 16 * 1024;  // products: a microsecond of one core
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t tokens = args.x->shape[0], e = args.logits->shape[1], all = e + constant_rows(args);
  const bool two_layers = args.hidden != nullptr;
  const Tensor& z = two_layers ? *args.hidden : *args.x;
  const RouterInput inputs[2] = {{z.f32(), z.shape[1], 0, two_layers ? e : all},
                                 {args.x->f32(), args.x->shape[1], e, two_layers ? all : e}};
  // A task is a block of tokens, or with few tokens a few rows of weights against one.
  const bool small = tokens * (e * z.shape[1] + (all - e) * args.x->shape[1]) <= kSmallJob;
  const int64_t block = small ? tokens : kRouterBlock;
  const int64_t token_blocks = tokens == 0 ? 0 : (tokens + block - 1) / block;
  const int64_t row_step = small || token_blocks >= pool.threads() ? all : kRouterRows;
  const int64_t row_blocks = (all + row_step - 1) / row_step;
  pool.parallel_for(token_blocks * row_blocks, [&](int64_t task, int) {
    const int64_t first = task / row_blocks * block,
                  last = first + block < tokens ? first + block : tokens;
    const int64_t row = task % row_blocks * row_step,
                  row_end = row + row_step < all ? row + row_step : all;
    for (const RouterInput& input : inputs) {
      const int64_t r = row > input.first_row ? row : input.first_row,
                    r_last = row_end < input.last_row ? row_end : input.last_row;
      if (r < r_last) router_rows(args, input, first, last, r, r_last);
    }
  });
}
