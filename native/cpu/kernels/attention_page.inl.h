#pragma once

// Attention's work on one page of keys and values: the scores of a block of rows, their weights,
// the weighted sums.

constexpr int kAttentionRows = 6;  // rows of a register tile
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kAttentionVectors = 4;  // 6 x 4 sums in 32 registers
#else
constexpr int kAttentionVectors = 2;  // 6 x 2 sums in 16 registers
#endif
constexpr int64_t kBlockRows = 4 * kAttentionRows;

template <int N>
struct Count {
  static constexpr int value = N;
};

// The rows of one task. q, o and the scores lie in the thread's scratch. Scores are in powers of 2:
// q is scaled by log2(e), too.
struct AttentionBlock {
  int64_t d, value_d;         // dimensions of keys and of values
  int64_t stride, page_size;  // o's rows are padded to whole vectors: stride floats
  float* q;                   // [rows, D], as operands
  float* o;                   // [rows, stride]
  float* scores;              // [rows, S], of the page at hand, then the weights as operands
  float* values;              // of a page of latents (latent_values.inl.h)
  int64_t rows;
  int64_t begin[kBlockRows], limit[kBlockRows];  // the row sees keys begin .. limit - 1
  int64_t from[kBlockRows], seen[kBlockRows];    // of the page at hand: its keys from .. seen - 1
  float highest[kBlockRows];
  float total[kBlockRows * kLanes];  // of each row in kLanes parts
  float correction[kBlockRows];  // what o must be multiplied with before it takes the page at hand

  float sum(int64_t row) const { return MOEPP_ISA::sum(load(total + row * kLanes)); }
};

// Prefetches of a loop over rows of memory, into the second-level cache. It asks for a line of
// every 512 bytes, kAheadBytes further on; the processor's own prefetcher brings those in between.
// A page's keys and values are one run of memory. Another run follows it.
//
// Of several tiles of rows only the first finds a page in memory. So each brings in its share of
// what comes next: values while keys are multiplied, then the next page's keys.
constexpr int64_t kAheadBytes = 4096, kLineBytes = 64;
struct Ahead {
  const char* from = nullptr;  // null: nothing
  int64_t left = 0;            // bytes of the run from there on
  const char* then = nullptr;  // the next run, or null
  int64_t row_bytes = 0;       // per turn
  bool whole = false;          // each line, not one of every 512 bytes

  Ahead() = default;
  // The share of `count` of `rows` rows, from number `row` on, in so many turns.
  static Ahead share(const void* next, int64_t bytes, int64_t row, int64_t count, int64_t rows,
                     int64_t turns) {
    Ahead ahead;
    if (next == nullptr) return ahead;
    const int64_t first = bytes * row / rows / kLineBytes * kLineBytes;
    ahead.from = static_cast<const char*>(next) + first;
    ahead.left = bytes * (row + count) / rows - first;
    ahead.row_bytes = (ahead.left / turns + kLineBytes - 1) / kLineBytes * kLineBytes;
    ahead.whole = true;
    return ahead;
  }
  Ahead(const void* row, int64_t run_bytes, const void* then, int64_t row_bytes)
      : from(static_cast<const char*>(row) + kAheadBytes),
        left(run_bytes - kAheadBytes),
        then(static_cast<const char*>(then)),
        row_bytes(row_bytes) {}

  void turn() {
    if (from == nullptr) return;
    if (left <= 0) {
      from = then == nullptr ? nullptr : then - left;
      left = INT64_MAX;
      if (from == nullptr) return;
    }
    if (whole) {
      for (int64_t i = 0; i < row_bytes; i += kLineBytes) __builtin_prefetch(from + i, 0, 2);
    } else if (left / 512 != (left - row_bytes) / 512) {
      __builtin_prefetch(from, 0, 2);
    }
    from += row_bytes;
    left -= row_bytes;
  }
};

// sums[r][g] += a step's operands of R rows times its elements of G vectors. With G = 0 it takes
// the first `lanes` lanes of one vector. kOnly: one element of the step, or all of it with kWhole.
constexpr int kWhole = -1;
template <class Cache, int R, int G, int kOnly, int N>
__attribute__((always_inline)) inline void attention_step(const typename Cache::Operand* operands,
                                                          int64_t row_stride, int64_t step,
                                                          const typename Cache::Element* from,
                                                          int lanes, Vf (&sums)[R][N]) {
  MOEPP_UNROLL
  for (int p = kOnly == kWhole || Cache::kParts == 1 ? 0 : kOnly;
       p < (kOnly == kWhole || Cache::kParts == 1 ? Cache::kParts : kOnly + 1); p++) {
    // There are no registers to hold two parts: the second is loaded again, which the empty
    // statement enforces.
    if (p > 0) __asm__ volatile("" ::: "memory");
    Vf elements[N];
    MOEPP_UNROLL
    for (int g = 0; g < N; g++) {
      const typename Cache::Element* vector = from + g * kLanes * Cache::kStep;
      elements[g] = G == 0 ? Cache::part_n(vector, p, lanes) : Cache::part(vector, p);
      if (kOnly != kWhole) elements[g] = Cache::only(elements[g], kOnly);
    }
    MOEPP_UNROLL
    for (int r = 0; r < R; r++) {
      const Vf operand = Cache::operand(operands + r * row_stride, step, p);
      MOEPP_UNROLL
      for (int g = 0; g < N; g++)
        sums[r][g] = Cache::multiply_add(operand, elements[g], sums[r][g]);
      MOEPP_UNROLL
      for (int g = 0; g < N; g++) keep_in_register(sums[r][g]);
    }
  }
}

// scores[r][s] = q[r] . keys[:][s] for R rows and G vectors of keys.
template <class Cache, int R, int G>
void score_vectors(const typename Cache::Operand* q, int64_t d, const typename Cache::Element* keys,
                   int64_t page_size, float* scores, Ahead ahead) {
  Vf sums[R][G];
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < G; g++) sums[r][g] = set1(0.0f);
  }
  for (int64_t step = 0; step < d / Cache::kStep; step++) {
    attention_step<Cache, R, G, kWhole>(q, d, step, keys + step * page_size * Cache::kStep, kLanes,
                                        sums);
    ahead.turn();
  }
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < G; g++) store(scores + r * page_size + g * kLanes, sums[r][g]);
  }
}

// The scores of R rows with the first n keys of a page, in whole vectors. S, a multiple of 16, has
// room for them.
template <class Cache, int R>
void score_rows(const AttentionBlock& block, int64_t row, const typename Cache::Element* keys,
                int64_t n, Ahead ahead) {
  const auto* q = reinterpret_cast<const typename Cache::Operand*>(block.q) + row * block.d;
  float* scores = block.scores + row * block.page_size;
  int64_t s = 0;
  const auto score = [&](auto vectors) {
    constexpr int kCount = decltype(vectors)::value;
    for (; s + (kCount - 1) * kLanes < n && s + kCount * kLanes <= block.page_size;
         s += kCount * kLanes) {
      score_vectors<Cache, R, kCount>(q, block.d, keys + s * Cache::kStep, block.page_size,
                                      scores + s, ahead);
      ahead.from = nullptr;
    }
  };
  score(Count<kAttentionVectors>());
  if (kAttentionVectors > 2) score(Count<2>());
  score(Count<1>());
}

inline float highest_score(const float* scores, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  float top = -__builtin_inff();
  if (whole > 0) {
    Vf tops = load(scores);
    for (int64_t s = kLanes; s < whole; s += kLanes) tops = max(tops, load(scores + s));
    top = highest(tops);
  }
  for (int64_t s = whole; s < n; s++) top = scores[s] > top ? scores[s] : top;
  return top;
}

// Turns the scores of a page into weights, 2^(score - m), and brings m, l and the correction up to
// date.
template <class Cache>
void soften(AttentionBlock& block) {
  float tops[kBlockRows];
  for (int64_t r = 0; r < block.rows; r++) {
    // a weight of 0 follows
    for (int64_t s = 0; s < block.from[r]; s++)
      block.scores[r * block.page_size + s] = -__builtin_inff();
    tops[r] = highest_score(block.scores + r * block.page_size, block.seen[r]);
  }
  for (int64_t r = 0; r < block.rows; r += kLanes) {
    const int n = block.rows - r < kLanes ? static_cast<int>(block.rows - r) : kLanes;
    const Vf before = load_n(block.highest + r, n), top = max(load_n(tops + r, n), before);
    store_n(block.correction + r, exp2_nonpositive(before - top), n);
    store_n(block.highest + r, top, n);
  }
  for (int64_t r = 0; r < block.rows; r++) {
    const int64_t n = block.seen[r];
    if (n == 0) continue;
    float* scores = block.scores + r * block.page_size;
    auto* operands = reinterpret_cast<typename Cache::Operand*>(scores);
    const Vf shift = set1(block.highest[r]);
    float* parts = block.total + r * kLanes;
    Vf total = load(parts) * set1(block.correction[r]);
    int64_t s = 0;
    for (; s + 2 * kLanes <= n; s += 2 * kLanes) {
      const Vf first = load(scores + s), second = load(scores + s + kLanes);
      total = Cache::store_weights(operands, s, exp2_nonpositive(first - shift),
                                   exp2_nonpositive(second - shift), 2 * kLanes, total);
    }
    if (s < n) {
      const int rest = static_cast<int>(n - s), in_first = rest < kLanes ? rest : kLanes,
                in_second = rest - in_first;
      const Vf first = first_n(exp2_nonpositive(load_n(scores + s, in_first) - shift), in_first);
      const Vf second =
          first_n(exp2_nonpositive(load_n(scores + s + kLanes, in_second) - shift), in_second);
      total = Cache::store_weights(operands, s, first, second, rest, total);
    }
    store(parts, total);
  }
}

// o[r] = o[r] * correction[r] + sum over keys [first, last) of weight * value. It takes R rows and
// G vectors of dimensions from i on. With G = 0 it takes the lanes of the last, partial vector.
template <class Cache, int R, int G>
void add_value_vectors(const AttentionBlock& block, int64_t row,
                       const typename Cache::Element* values, int64_t i, int64_t first,
                       int64_t last, Ahead ahead) {
  constexpr int kCount = G == 0 ? 1 : G;
  const int lanes = static_cast<int>(block.value_d - i);
  const auto* weights =
      reinterpret_cast<const typename Cache::Operand*>(block.scores + row * block.page_size);
  const int64_t row_stride =
      block.page_size * static_cast<int64_t>(sizeof(float) / sizeof(*weights));
  float* o = block.o + row * block.stride + i;
  Vf sums[R][kCount];
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < kCount; g++)
      sums[r][g] = load(o + r * block.stride + g * kLanes) * set1(block.correction[row + r]);
  }
  int64_t step = first / Cache::kStep;
  const auto from = [&] { return values + (step * block.value_d + i) * Cache::kStep; };
  if (first % Cache::kStep != 0) {
    attention_step<Cache, R, G, 1>(weights, row_stride, step, from(), lanes, sums);
    step++;
  }
  for (; step < last / Cache::kStep; step++) {
    attention_step<Cache, R, G, kWhole>(weights, row_stride, step, from(), lanes, sums);
    ahead.turn();
  }
  if (last % Cache::kStep != 0)
    attention_step<Cache, R, G, 0>(weights, row_stride, step, from(), lanes, sums);
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < kCount; g++) store(o + r * block.stride + g * kLanes, sums[r][g]);
  }
}

// All dimensions of R rows.
template <class Cache, int R>
void add_values(AttentionBlock& block, int64_t row, const typename Cache::Element* values,
                int64_t first, int64_t last, Ahead ahead) {
  // few rows need more vectors, to have enough sums under way
  constexpr int kWide = R <= 2 ? 6 : kAttentionVectors;
  int64_t i = 0;
  const auto add = [&](auto vectors) {
    constexpr int kCount = decltype(vectors)::value;
    for (; i + kCount * kLanes <= block.value_d; i += kCount * kLanes) {
      add_value_vectors<Cache, R, kCount>(block, row, values, i, first, last, ahead);
      ahead.from = nullptr;
    }
  };
  add(Count<kWide>());
  if (kWide > 4) add(Count<4>());
  if (kWide > 2) add(Count<2>());
  add(Count<1>());
  if (i < block.value_d) add_value_vectors<Cache, R, 0>(block, row, values, i, first, last, ahead);
  for (int r = 0; r < R; r++) block.correction[row + r] = 1.0f;
}

// body(row, Count<R>()) for tiles that cover the block's rows.
template <class Body>
void for_tiles(const AttentionBlock& block, const Body& body) {
  int64_t row = 0;
  for (; row + kAttentionRows <= block.rows; row += kAttentionRows)
    body(row, Count<kAttentionRows>());
  for (; row + 4 <= block.rows; row += 4) body(row, Count<4>());
  for (; row + 2 <= block.rows; row += 2) body(row, Count<2>());
  for (; row < block.rows; row++) body(row, Count<1>());
}

inline int64_t least_seen(const AttentionBlock& block, int64_t row, int rows) {
  int64_t least = block.seen[row];
  for (int r = 1; r < rows; r++) least = block.seen[row + r] < least ? block.seen[row + r] : least;
  return least;
}
inline int64_t most_skipped(const AttentionBlock& block, int64_t row, int rows) {
  int64_t most = block.from[row];
  for (int r = 1; r < rows; r++) most = block.from[row + r] > most ? block.from[row + r] : most;
  return most;
}
inline int64_t most_seen(const AttentionBlock& block, int64_t row, int rows) {
  int64_t most = block.seen[row];
  for (int r = 1; r < rows; r++) most = block.seen[row + r] > most ? block.seen[row + r] : most;
  return most;
}

// One page: first every row's scores, then every row's sums. So the keys, then the values stay in
// the first-level cache. next: the keys of the page after this one, or null.
template <class Cache>
void attend_page(AttentionBlock& block, const typename Cache::Element* keys,
                 const typename Cache::Element* values, const typename Cache::Element* next) {
  const auto whole_steps = [](int64_t keys) {
    return (keys + Cache::kStep - 1) / Cache::kStep * Cache::kStep;
  };
  constexpr int64_t kStepBytes =
      Cache::kStep * static_cast<int64_t>(sizeof(typename Cache::Element));
  constexpr int64_t kElement = sizeof(typename Cache::Element);
  const bool latents = reinterpret_cast<const float*>(values) == block.values;
  const int64_t key_bytes = block.d * block.page_size * kElement,
                value_bytes = latents ? 0 : block.value_d * block.page_size * kElement;
  for_tiles(block, [&](int64_t row, auto tile) {
    constexpr int kRows = decltype(tile)::value;
    const Ahead ahead =
        kRows < block.rows
            ? Ahead::share(values, value_bytes, row, kRows, block.rows, block.d / Cache::kStep)
            : Ahead(keys, key_bytes + value_bytes, next, block.page_size * kStepBytes);
    score_rows<Cache, kRows>(block, row, keys, most_seen(block, row, kRows), ahead);
  });
  soften<Cache>(block);
  // The steps that all rows of a tile see whole are taken together. Each row takes the rest alone,
  // before and after them, still in ascending order. A value that a row does not see is never
  // multiplied: it may be anything.
  for_tiles(block, [&](int64_t row, auto tile) {
    constexpr int kRows = decltype(tile)::value;
    const int64_t skipped = most_skipped(block, row, kRows), first = whole_steps(skipped),
                  last = least_seen(block, row, kRows) / Cache::kStep * Cache::kStep;
    const Ahead ahead =
        kRows < block.rows
            ? Ahead::share(next, key_bytes, row, kRows, block.rows, block.page_size / Cache::kStep)
            : Ahead(values, value_bytes, next, block.value_d * kStepBytes);
    const auto alone = [&](int64_t from, int64_t to) {
      for (int64_t r = row; r < row + kRows; r++) {
        const int64_t begin = block.from[r] > from ? block.from[r] : from,
                      end = block.seen[r] < to ? block.seen[r] : to;
        if (begin < end) add_values<Cache, 1>(block, r, values, begin, end, Ahead());
      }
    };
    if (first >= last) return alone(0, block.page_size);
    if (skipped > 0) alone(0, first);
    add_values<Cache, kRows>(block, row, values, first, last, ahead);
    alone(last, block.page_size);
  });
}
