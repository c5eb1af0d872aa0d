#include "rows.inl.h"

// Softmax attention over the pages of one sequence, with running statistics: per query row the highest score so far (m), the
// sum of e^(score - m) (l), and the values' sum weighted likewise (o). A row's steps are the same whatever rows share its tile:
// per page all scores (each a sum over d in ascending order), then m, l, then o over the keys in ascending order.
//
// A row is one (token, query head) pair. The rows of one key/value head in one sequence are numbered token by token, so that a
// block of rows holds consecutive tokens, or the query heads that share the key/value head, or both: either way each page is
// loaded from memory once per block. Source: Milakov and Gimelshein, Online normalizer calculation for softmax.
//
// A context is cut into chunks of kChunkKeys, each with m, l and o of its own, which are folded in ascending order. So the chunks
// of one block can be given to several threads, where there are fewer blocks than threads (decoding, few key/value heads),
// without a change of the result's bits.

constexpr int kAttentionRows = 6;  // rows of a register tile
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kAttentionVectors = 4;  // 6 x 4 sums in 32 registers
#else
constexpr int kAttentionVectors = 2;  // 6 x 2 sums in 16 registers
#endif
constexpr int64_t kBlockRows = 4 * kAttentionRows;

constexpr int64_t kChunkKeys = 512;

template <int N>
struct Count {
  static constexpr int value = N;
};

// The rows of one task. q, o and the scores lie in the thread's scratch.
struct AttentionBlock {
  int64_t d, stride, page_size;  // o's rows are padded to whole vectors: stride floats
  float* q;                      // [rows, D], scaled
  float* o;                      // [rows, stride]
  float* scores;                 // [rows, S], of the page at hand
  int64_t rows;
  int64_t limit[kBlockRows];  // keys that the row sees
  int64_t seen[kBlockRows];   // of those, keys in the page at hand: its first ones
  float highest[kBlockRows], total[kBlockRows];
  float correction[kBlockRows];  // what o must be multiplied with before it takes the page at hand
};

// What a loop over rows of memory asks the caches for meanwhile: the same number of bytes further on in each turn. Without it the
// first touch of each page of keys or values waits for memory, and decoding reached only 58 % of the read bandwidth.
struct Ahead {
  const char* next = nullptr;  // null: nothing
  int64_t bytes = 0;           // per turn

  void turn() {
    if (next == nullptr) return;
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i);
    next += bytes;
  }
};

// scores[r][s] = q[r] . keys[:][s] for R rows and G vectors of keys.
template <int R, int G, class E>
void score_vectors(const float* q, int64_t d, const E* keys, int64_t page_size, float* scores, Ahead ahead) {
  Vf sums[R][G];
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < G; g++) sums[r][g] = set1(0.0f);
  }
  for (int64_t i = 0; i < d; i++) {
    Vf key[G];
    MOEPP_UNROLL
    for (int g = 0; g < G; g++) key[g] = load(keys + i * page_size + g * kLanes);
    MOEPP_UNROLL
    for (int r = 0; r < R; r++) {
      const Vf value = set1(q[r * d + i]);
      MOEPP_UNROLL
      for (int g = 0; g < G; g++) sums[r][g] = fma(value, key[g], sums[r][g]);
    }
    ahead.turn();
  }
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < G; g++) store(scores + r * page_size + g * kLanes, sums[r][g]);
  }
}

// The scores of R rows with the first n keys of a page: whole vectors of them, which S, a multiple of 16, has room for.
template <int R, class E>
void score_rows(const AttentionBlock& block, int64_t row, const E* keys, int64_t n, Ahead ahead) {
  constexpr int kWide = kAttentionVectors * kLanes;
  const float* q = block.q + row * block.d;
  float* scores = block.scores + row * block.page_size;
  int64_t s = 0;
  for (; s + kWide - kLanes < n && s + kWide <= block.page_size; s += kWide) {
    score_vectors<R, kAttentionVectors>(q, block.d, keys + s, block.page_size, scores + s, ahead);
    ahead.next = nullptr;
  }
  for (; s + kLanes < n && s + 2 * kLanes <= block.page_size; s += 2 * kLanes) {
    score_vectors<R, 2>(q, block.d, keys + s, block.page_size, scores + s, ahead);
    ahead.next = nullptr;
  }
  for (; s < n; s += kLanes) {
    score_vectors<R, 1>(q, block.d, keys + s, block.page_size, scores + s, ahead);
    ahead.next = nullptr;
  }
}

// Turns the n scores of one row into e^(score - m), and brings m, l and the correction up to date.
inline void soften_row(AttentionBlock& block, int64_t row, float* scores, int64_t n) {
  const int64_t whole = n / kLanes * kLanes;
  const int rest = static_cast<int>(n - whole);
  float top = block.highest[row];
  if (whole > 0) {
    Vf tops = load(scores);
    for (int64_t s = kLanes; s < whole; s += kLanes) tops = max(tops, load(scores + s));
    const float here = highest(tops);
    top = here > top ? here : top;
  }
  for (int64_t s = whole; s < n; s++) top = scores[s] > top ? scores[s] : top;
  const Vf shift = set1(top);
  Vf total = set1(0.0f);
  for (int64_t s = 0; s < whole; s += kLanes) {
    const Vf weight = exp(load(scores + s) - shift);
    store(scores + s, weight);
    total = total + weight;
  }
  if (rest > 0) {
    const Vf weight = exp(load_n(scores + whole, rest) - shift);
    store_n(scores + whole, weight, rest);
    total = total + first_n(weight, rest);
  }
  const float correction = top == block.highest[row] ? 1.0f : exp(block.highest[row] - top);
  block.correction[row] = correction;
  block.highest[row] = top;
  block.total[row] = block.total[row] * correction + sum(total);
}

// o[r] = o[r] * correction[r] + sum over keys [first, last) of weight * value, for R rows and G vectors of dimensions from i on;
// with G = 0, for the lanes of the last, partial vector.
template <int R, int G, class E>
void add_value_vectors(const AttentionBlock& block, int64_t row, const E* values, int64_t i, int64_t first, int64_t last,
                       Ahead ahead) {
  constexpr int kCount = G == 0 ? 1 : G;
  const int lanes = static_cast<int>(block.d - i);
  const float* weights = block.scores + row * block.page_size;
  float* o = block.o + row * block.stride + i;
  Vf sums[R][kCount];
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < kCount; g++) sums[r][g] = load(o + r * block.stride + g * kLanes) * set1(block.correction[row + r]);
  }
  for (int64_t s = first; s < last; s++) {
    Vf value[kCount];
    MOEPP_UNROLL
    for (int g = 0; g < kCount; g++) {
      const E* from = values + s * block.d + i + g * kLanes;
      value[g] = G == 0 ? load_n(from, lanes) : load(from);
    }
    MOEPP_UNROLL
    for (int r = 0; r < R; r++) {
      const Vf weight = set1(weights[r * block.page_size + s]);
      MOEPP_UNROLL
      for (int g = 0; g < kCount; g++) sums[r][g] = fma(weight, value[g], sums[r][g]);
    }
    ahead.turn();
  }
  MOEPP_UNROLL
  for (int r = 0; r < R; r++) {
    MOEPP_UNROLL
    for (int g = 0; g < kCount; g++) store(o + r * block.stride + g * kLanes, sums[r][g]);
  }
}

// All dimensions of R rows.
template <int R, class E>
void add_values(AttentionBlock& block, int64_t row, const E* values, int64_t first, int64_t last, Ahead ahead) {
  constexpr int kWide = R <= 2 ? 6 : kAttentionVectors;  // few rows need more vectors, to have enough sums under way
  int64_t i = 0;
  const auto add = [&](auto vectors) {
    constexpr int kCount = decltype(vectors)::value;
    for (; i + kCount * kLanes <= block.d; i += kCount * kLanes) {
      add_value_vectors<R, kCount>(block, row, values, i, first, last, ahead);
      ahead.next = nullptr;
    }
  };
  add(Count<kWide>());
  if (kWide > 4) add(Count<4>());
  if (kWide > 2) add(Count<2>());
  add(Count<1>());
  if (i < block.d) add_value_vectors<R, 0>(block, row, values, i, first, last, ahead);
  for (int r = 0; r < R; r++) block.correction[row + r] = 1.0f;
}

// body(row, Count<R>()) for tiles that cover the block's rows.
template <class Body>
void for_tiles(const AttentionBlock& block, const Body& body) {
  int64_t row = 0;
  for (; row + kAttentionRows <= block.rows; row += kAttentionRows) body(row, Count<kAttentionRows>());
  for (; row + 4 <= block.rows; row += 4) body(row, Count<4>());
  for (; row + 2 <= block.rows; row += 2) body(row, Count<2>());
  for (; row < block.rows; row++) body(row, Count<1>());
}

inline int64_t least_seen(const AttentionBlock& block, int64_t row, int rows) {
  int64_t least = block.seen[row];
  for (int r = 1; r < rows; r++) least = block.seen[row + r] < least ? block.seen[row + r] : least;
  return least;
}
inline int64_t most_seen(const AttentionBlock& block, int64_t row, int rows) {
  int64_t most = block.seen[row];
  for (int r = 1; r < rows; r++) most = block.seen[row + r] > most ? block.seen[row + r] : most;
  return most;
}

// One page: first every row's scores, then every row's sums, so that the keys, then the values stay in the first-level cache.
// next: the keys of the page after this one, or null.
template <class E>
void attend_page(AttentionBlock& block, const E* keys, const E* values, const E* next) {
  const int64_t key_bytes = block.page_size * static_cast<int64_t>(sizeof(E)),
                value_bytes = block.d * static_cast<int64_t>(sizeof(E));
  for_tiles(block, [&](int64_t row, auto tile) {
    constexpr int kRows = decltype(tile)::value;
    const int64_t most = most_seen(block, row, kRows);
    if (most == 0) return;
    score_rows<kRows>(block, row, keys, most, {row == 0 ? reinterpret_cast<const char*>(values) : nullptr, key_bytes});
    for (int64_t r = row; r < row + kRows; r++) {
      if (block.seen[r] > 0) soften_row(block, r, block.scores + r * block.page_size, block.seen[r]);
    }
  });
  // The keys that all rows of a tile see, then those that only some do: each row still takes its keys in ascending order. A value
  // that a row does not see is never multiplied: it may be anything.
  for_tiles(block, [&](int64_t row, auto tile) {
    constexpr int kRows = decltype(tile)::value;
    const int64_t least = least_seen(block, row, kRows);
    const Ahead ahead = {row == 0 ? reinterpret_cast<const char*>(next) : nullptr, value_bytes};
    if (least > 0) add_values<kRows>(block, row, values, 0, least, ahead);
    for (int64_t r = row; r < row + kRows; r++) {
      if (block.seen[r] > least) add_values<1>(block, r, values, least, block.seen[r], Ahead());
    }
  });
}

// Keys [first, last) of the context, from nothing; both are borders of chunks. after: what will be read next, or null.
template <class E>
void attend(AttentionBlock& block, const AttentionArgs& args, const int32_t* pages, int64_t head, int64_t first, int64_t last,
            const void* after) {
  const KvView& kv = *args.cache;
  const E* cache = static_cast<const E*>(kv.data);
  for (int64_t r = 0; r < block.rows; r++) {
    for (int64_t i = 0; i < block.stride; i++) block.o[r * block.stride + i] = 0.0f;
    block.highest[r] = -__builtin_inff();
    block.total[r] = 0.0f;
  }
  for (; first < last; first += kv.page_size) {
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t n = block.limit[r] - first;
      block.seen[r] = n < 0 ? 0 : n > kv.page_size ? kv.page_size : n;
    }
    const int32_t* page = pages + first / kv.page_size;
    const E* next = first + kv.page_size < last ? cache + kv_keys(kv, args.layer, page[1], head) : static_cast<const E*>(after);
    attend_page(block, cache + kv_keys(kv, args.layer, page[0], head), cache + kv_values(kv, args.layer, page[0], head), next);
  }
}

// m, l and o of the chunks so far of some rows.
struct Folded {
  float* o;  // [rows, stride]
  float highest[kBlockRows], total[kBlockRows];
};

// Takes in one chunk of one row: m, l and o. Every row sees the first chunk.
inline void fold_chunk(Folded& folded, int64_t r, int64_t chunk, float highest, float total, const float* o, int64_t stride) {
  float* into = folded.o + r * stride;
  if (chunk == 0) {
    for (int64_t i = 0; i < stride; i += kLanes) store(into + i, load(o + i));
    folded.highest[r] = highest;
    folded.total[r] = total;
    return;
  }
  const float top = highest > folded.highest[r] ? highest : folded.highest[r];
  const float keep = top == folded.highest[r] ? 1.0f : exp(folded.highest[r] - top);
  const float add = top == highest ? 1.0f : exp(highest - top);
  for (int64_t i = 0; i < stride; i += kLanes) store(into + i, fma(load(o + i), set1(add), load(into + i) * set1(keep)));
  folded.highest[r] = top;
  folded.total[r] = folded.total[r] * keep + total * add;
}

// Which rows a task takes: rows [first, first + rows) of key/value head `head` in sequence `sequence`.
struct AttentionTask {
  int64_t sequence, head, first, rows;
};

// Rows of one key/value head: in sequence b, and blocks of them in all sequences.
struct AttentionPlan {
  const AttentionArgs& args;
  int64_t group;  // query heads per key/value head
  int64_t block_rows;

  int64_t rows(int64_t b) const {
    const int32_t* starts = args.sequence_starts->i32();
    return (starts[b + 1] - starts[b]) * group;
  }
  int64_t blocks(int64_t b) const { return (rows(b) + block_rows - 1) / block_rows; }
  int64_t blocks() const {
    int64_t count = 0;
    for (int64_t b = 0; b < args.sequence_starts->shape[0] - 1; b++) count += blocks(b);
    return count;
  }
  // Head by head, since a head's pages fit a cache; within a head the last block first, since it sees the most keys.
  AttentionTask task(int64_t index, int64_t blocks_per_head) const {
    int64_t left = index % blocks_per_head, b = args.sequence_starts->shape[0] - 2;
    for (; left >= blocks(b); b--) left -= blocks(b);
    const int64_t first = (blocks(b) - 1 - left) * block_rows;
    const int64_t rest = rows(b) - first;
    return {b, index / blocks_per_head, first, rest < block_rows ? rest : block_rows};
  }
};

// One task's block, its queries, and what it may use of the thread's scratch.
struct AttentionWork {
  const AttentionArgs& args;
  AttentionTask task;
  int64_t group, chunk_keys;
  AttentionBlock block;
  Folded folded;

  AttentionWork(const AttentionArgs& args, int64_t group, const AttentionTask& task, std::byte* scratch)
      : args(args), task(task), group(group) {
    block.d = args.q->shape[2];
    block.stride = (block.d + kLanes - 1) / kLanes * kLanes;
    block.page_size = args.cache->page_size;
    block.rows = task.rows;
    block.o = reinterpret_cast<float*>(scratch);
    folded.o = block.o + kBlockRows * block.stride;
    block.scores = folded.o + kBlockRows * block.stride;
    block.q = block.scores + kBlockRows * block.page_size;
    chunk_keys = kChunkKeys / block.page_size * block.page_size;
    for (int64_t r = 0; r < task.rows; r++) block.limit[r] = args.positions->i32()[start() + (task.first + r) / group] + 1;
  }
  int64_t start() const { return args.sequence_starts->i32()[task.sequence]; }
  int64_t row_offset(int64_t r) const {  // of row r in q and out
    const int64_t index = task.first + r;
    return ((start() + index / group) * args.q->shape[1] + task.head * group + index % group) * block.d;
  }
  int64_t keys() const {
    int64_t most = 0;
    for (int64_t r = 0; r < block.rows; r++) most = block.limit[r] > most ? block.limit[r] : most;
    return most;
  }
  int64_t chunks() const { return (keys() + chunk_keys - 1) / chunk_keys; }
  bool sees(int64_t r, int64_t chunk) const { return block.limit[r] > chunk * chunk_keys; }

  void take_queries() {
    for (int64_t r = 0; r < block.rows; r++) {
      const float* q = args.q->f32() + row_offset(r);
      for (int64_t i = 0; i < block.d; i++) block.q[r * block.d + i] = q[i] * args.scale;
    }
  }
  // The keys of the first page of a chunk.
  const void* keys_of(int64_t chunk) const {
    const int32_t* pages = args.page_table->i32() + task.sequence * args.page_table->shape[1];
    const int64_t first = kv_keys(*args.cache, args.layer, pages[chunk * chunk_keys / block.page_size], task.head);
    return static_cast<const char*>(args.cache->data) + first * dtype_size(args.cache->dtype);
  }
  void attend_chunk(int64_t chunk, const void* after) {
    const int32_t* pages = args.page_table->i32() + task.sequence * args.page_table->shape[1];
    const int64_t first = chunk * chunk_keys, end = first + chunk_keys, all = keys(), last = end < all ? end : all;
    if (args.cache->dtype == DType::kF32) {
      attend<float>(block, args, pages, task.head, first, last, after);
    } else {
      attend<uint16_t>(block, args, pages, task.head, first, last, after);
    }
  }
  void write() const {
    for (int64_t r = 0; r < block.rows; r++) {
      float* out = args.out->f32() + row_offset(r);
      for (int64_t i = 0; i < block.d; i++) out[i] = folded.o[r * block.stride + i] / folded.total[r];
    }
  }
};

// after: what this thread will read next, or null.
inline void attend_whole(AttentionWork work, const void* after) {
  work.take_queries();
  for (int64_t chunk = 0; chunk < work.chunks(); chunk++) {
    work.attend_chunk(chunk, chunk + 1 < work.chunks() ? work.keys_of(chunk + 1) : after);
    const AttentionBlock& b = work.block;
    for (int64_t r = 0; r < b.rows; r++) {
      if (work.sees(r, chunk)) fold_chunk(work.folded, r, chunk, b.highest[r], b.total[r], b.o + r * b.stride, b.stride);
    }
  }
  work.write();
}

// What a chunk leaves for a row: m and l in a vector of their own, then o.
inline int64_t partial_floats(int64_t stride) {
  return kLanes + stride;
}

inline void attend_part(AttentionWork work, int64_t chunk, float* partial) {
  if (chunk >= work.chunks()) return;
  work.take_queries();
  work.attend_chunk(chunk, nullptr);
  const AttentionBlock& b = work.block;
  const int64_t size = partial_floats(b.stride);
  for (int64_t r = 0; r < b.rows; r++) {
    float* row = partial + r * size;
    row[0] = b.highest[r];
    row[1] = b.total[r];
    for (int64_t i = 0; i < b.stride; i += kLanes) store(row + kLanes + i, load(b.o + r * b.stride + i));
  }
}

inline void fold_parts(AttentionWork work, int64_t block_rows, const float* partials) {
  const int64_t stride = work.block.stride, size = partial_floats(stride);
  for (int64_t chunk = 0; chunk < work.chunks(); chunk++) {
    for (int64_t r = 0; r < work.block.rows; r++) {
      const float* row = partials + (chunk * block_rows + r) * size;
      if (work.sees(r, chunk)) fold_chunk(work.folded, r, chunk, row[0], row[1], row + kLanes, stride);
    }
  }
  work.write();
}

inline void attention(const AttentionArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t hkv = args.cache->kv_heads, threads = pool.threads();
  AttentionPlan plan = {args, args.q->shape[1] / hkv, kBlockRows};
  while (plan.block_rows > kAttentionRows && plan.blocks() * hkv < threads) plan.block_rows /= 2;
  const int64_t blocks = plan.blocks(), tasks = blocks * hkv;
  int64_t keys = 0;
  for (int64_t t = 0; t < args.q->shape[0]; t++) keys = args.positions->i32()[t] >= keys ? args.positions->i32()[t] + 1 : keys;
  const int64_t chunk_keys = kChunkKeys / args.cache->page_size * args.cache->page_size;
  const int64_t chunks = (keys + chunk_keys - 1) / chunk_keys;
  const int64_t floats = plan.block_rows * partial_floats((args.q->shape[2] + kLanes - 1) / kLanes * kLanes);
  const bool fits = tasks * chunks * floats * 4 <= static_cast<int64_t>(kJobScratchBytes);
  if (chunks <= 1 || tasks >= 3 * threads || threads == 1 || !fits) {
    pool.parallel_for(tasks, [&](int64_t index, int thread) {
      std::byte* scratch = pool.scratch(thread);
      // The threads take tasks in turn, so that this one's next is likely to be `threads` further.
      const auto work = [&](int64_t i) { return AttentionWork(args, plan.group, plan.task(i, blocks), scratch); };
      attend_whole(work(index), index + threads < tasks ? work(index + threads).keys_of(0) : nullptr);
    });
    return;
  }
  float* partials = reinterpret_cast<float*>(pool.job_scratch());
  pool.parallel_for(tasks * chunks, [&](int64_t index, int thread) {
    const AttentionTask task = plan.task(index / chunks, blocks);
    attend_part(AttentionWork(args, plan.group, task, pool.scratch(thread)), index % chunks, partials + index * floats);
  });
  pool.parallel_for(tasks, [&](int64_t index, int thread) {
    const AttentionTask task = plan.task(index, blocks);
    fold_parts(AttentionWork(args, plan.group, task, pool.scratch(thread)), plan.block_rows, partials + index * chunks * floats);
  });
}
