#include "rows.inl.h"

// Softmax attention over the pages of one sequence, with running statistics: per query row the highest score so far (m), the
// sum of e^(score - m) (l), and the values' sum weighted likewise (o). A row's steps are the same whatever rows share its tile:
// per page all scores (each a sum over d in ascending order), then m, l, then o over the keys in ascending order.
//
// A row is one (token, query head) pair. The rows of one key/value head in one sequence are numbered token by token, so that a
// block of rows holds consecutive tokens, or the query heads that share the key/value head, or both: either way each page is
// loaded from memory once per block. Source: Milakov and Gimelshein, Online normalizer calculation for softmax.

constexpr int kAttentionRows = 6;  // rows of a register tile
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int kAttentionVectors = 4;  // 6 x 4 sums in 32 registers
#else
constexpr int kAttentionVectors = 2;  // 6 x 2 sums in 16 registers
#endif
constexpr int64_t kBlockRows = 4 * kAttentionRows;

// The rows of one task. q, o and the scores lie in the thread's scratch.
struct AttentionBlock {
  int64_t d, stride, page_size;  // o's rows are padded to whole vectors: stride floats
  float* q;                      // [rows, D], scaled
  float* o;                      // [rows, stride]
  float* scores;                 // [kAttentionRows, S], of the tile at hand
  int64_t rows;
  int64_t limit[kBlockRows];  // keys that the row sees
  float highest[kBlockRows], total[kBlockRows];
  float correction[kBlockRows];  // what o must be multiplied with before it takes the page at hand
};

// scores[r][s] = q[r] . keys[:][s] for R rows and G vectors of keys.
template <int R, int G, class E>
void score_vectors(const float* q, int64_t d, const E* keys, int64_t page_size, float* scores) {
  Vf sums[R][G];
  for (int r = 0; r < R; r++) {
    for (int g = 0; g < G; g++) sums[r][g] = set1(0.0f);
  }
  for (int64_t i = 0; i < d; i++) {
    Vf key[G];
    for (int g = 0; g < G; g++) key[g] = load(keys + i * page_size + g * kLanes);
    for (int r = 0; r < R; r++) {
      const Vf value = set1(q[r * d + i]);
      for (int g = 0; g < G; g++) sums[r][g] = fma(value, key[g], sums[r][g]);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int g = 0; g < G; g++) store(scores + r * page_size + g * kLanes, sums[r][g]);
  }
}

// The scores of R rows with the first n keys of a page (a multiple of kLanes is computed, which S, a multiple of 16, allows).
template <int R, class E>
void score_rows(const AttentionBlock& block, int64_t row, const E* keys, int64_t n, float* scores) {
  const float* q = block.q + row * block.d;
  int64_t s = 0;
  for (; s + (kAttentionVectors - 1) * kLanes < n && s + kAttentionVectors * kLanes <= block.page_size;
       s += kAttentionVectors * kLanes) {
    score_vectors<R, kAttentionVectors>(q, block.d, keys + s, block.page_size, scores + s);
  }
  for (; s < n; s += kLanes) score_vectors<R, 1>(q, block.d, keys + s, block.page_size, scores + s);
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
void add_value_vectors(const AttentionBlock& block, int64_t row, const float* weights, const E* values, int64_t i, int64_t first,
                       int64_t last) {
  constexpr int kCount = G == 0 ? 1 : G;
  const int lanes = static_cast<int>(block.d - i);
  float* o = block.o + row * block.stride + i;
  Vf sums[R][kCount];
  for (int r = 0; r < R; r++) {
    for (int g = 0; g < kCount; g++) sums[r][g] = load(o + r * block.stride + g * kLanes) * set1(block.correction[row + r]);
  }
  for (int64_t s = first; s < last; s++) {
    Vf value[kCount];
    for (int g = 0; g < kCount; g++) {
      const E* from = values + s * block.d + i + g * kLanes;
      value[g] = G == 0 ? load_n(from, lanes) : load(from);
    }
    for (int r = 0; r < R; r++) {
      const Vf weight = set1(weights[r * block.page_size + s]);
      for (int g = 0; g < kCount; g++) sums[r][g] = fma(weight, value[g], sums[r][g]);
    }
  }
  for (int r = 0; r < R; r++) {
    for (int g = 0; g < kCount; g++) store(o + r * block.stride + g * kLanes, sums[r][g]);
  }
}

template <int R, class E>
void add_values(AttentionBlock& block, int64_t row, const float* weights, const E* values, int64_t first, int64_t last) {
  int64_t i = 0;
  for (; i + kAttentionVectors * kLanes <= block.d; i += kAttentionVectors * kLanes) {
    add_value_vectors<R, kAttentionVectors>(block, row, weights, values, i, first, last);
  }
  for (; i + 2 * kLanes <= block.d; i += 2 * kLanes) add_value_vectors<R, 2>(block, row, weights, values, i, first, last);
  for (; i + kLanes <= block.d; i += kLanes) add_value_vectors<R, 1>(block, row, weights, values, i, first, last);
  if (i < block.d) add_value_vectors<R, 0>(block, row, weights, values, i, first, last);
  for (int r = 0; r < R; r++) block.correction[row + r] = 1.0f;
}

// One page for R rows. first_key is the position of the page's first key.
template <int R, class E>
void attend_page(AttentionBlock& block, int64_t row, const E* keys, const E* values, int64_t first_key) {
  int64_t seen[R], least = block.page_size, most = 0;
  for (int r = 0; r < R; r++) {
    const int64_t n = block.limit[row + r] - first_key;
    seen[r] = n < 0 ? 0 : n > block.page_size ? block.page_size : n;
    least = seen[r] < least ? seen[r] : least;
    most = seen[r] > most ? seen[r] : most;
  }
  if (most == 0) return;
  score_rows<R>(block, row, keys, most, block.scores);
  for (int r = 0; r < R; r++) {
    if (seen[r] > 0) soften_row(block, row + r, block.scores + r * block.page_size, seen[r]);
  }
  // The keys that all rows see, then those that only some do: each row still takes its keys in ascending order. A value that a
  // row does not see is never multiplied: it may be anything.
  if (least > 0) add_values<R>(block, row, block.scores, values, 0, least);
  for (int r = 0; r < R; r++) {
    if (seen[r] > least) add_values<1>(block, row + r, block.scores + r * block.page_size, values, least, seen[r]);
  }
}

template <class E>
void attend(AttentionBlock& block, const AttentionArgs& args, const int32_t* pages, int64_t head) {
  const KvView& kv = *args.cache;
  int64_t keys = 0;
  for (int64_t r = 0; r < block.rows; r++) keys = block.limit[r] > keys ? block.limit[r] : keys;
  for (int64_t first = 0; first < keys; first += kv.page_size) {
    const int64_t page = pages[first / kv.page_size];
    const E* k = static_cast<const E*>(kv.data) + kv_keys(kv, args.layer, page, head);
    const E* v = static_cast<const E*>(kv.data) + kv_values(kv, args.layer, page, head);
    int64_t row = 0;
    for (; row + kAttentionRows <= block.rows; row += kAttentionRows) attend_page<kAttentionRows>(block, row, k, v, first);
    for (; row + 4 <= block.rows; row += 4) attend_page<4>(block, row, k, v, first);
    for (; row + 2 <= block.rows; row += 2) attend_page<2>(block, row, k, v, first);
    for (; row < block.rows; row++) attend_page<1>(block, row, k, v, first);
  }
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

inline void attend_task(const AttentionArgs& args, int64_t group, const AttentionTask& task, std::byte* scratch) {
  const int64_t d = args.q->shape[2], hq = args.q->shape[1];
  AttentionBlock block;
  block.d = d;
  block.stride = (d + kLanes - 1) / kLanes * kLanes;
  block.page_size = args.cache->page_size;
  block.rows = task.rows;
  block.o = reinterpret_cast<float*>(scratch);
  block.scores = block.o + kBlockRows * block.stride;
  block.q = block.scores + kAttentionRows * block.page_size;
  const int64_t start = args.sequence_starts->i32()[task.sequence];
  const auto query = [&](int64_t r) {  // offset of row r in q and out
    const int64_t index = task.first + r;
    return ((start + index / group) * hq + task.head * group + index % group) * d;
  };
  for (int64_t r = 0; r < task.rows; r++) {
    const float* q = args.q->f32() + query(r);
    for (int64_t i = 0; i < d; i++) block.q[r * d + i] = q[i] * args.scale;
    for (int64_t i = 0; i < block.stride; i++) block.o[r * block.stride + i] = 0.0f;
    block.limit[r] = args.positions->i32()[start + (task.first + r) / group] + 1;
    block.highest[r] = -__builtin_inff();
    block.total[r] = 0.0f;
  }
  const int32_t* pages = args.page_table->i32() + task.sequence * args.page_table->shape[1];
  if (args.cache->dtype == DType::kF32) {
    attend<float>(block, args, pages, task.head);
  } else {
    attend<uint16_t>(block, args, pages, task.head);
  }
  for (int64_t r = 0; r < task.rows; r++) {
    float* out = args.out->f32() + query(r);
    for (int64_t i = 0; i < d; i++) out[i] = block.o[r * block.stride + i] / block.total[r];
  }
}

inline void attention(const AttentionArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t hkv = args.cache->kv_heads;
  AttentionPlan plan = {args, args.q->shape[1] / hkv, kBlockRows};
  while (plan.block_rows > kAttentionRows && plan.blocks() * hkv < pool.threads()) plan.block_rows /= 2;
  const int64_t blocks = plan.blocks();
  pool.parallel_for(blocks * hkv, [&](int64_t index, int thread) {
    attend_task(args, plan.group, plan.task(index, blocks), pool.scratch(thread));
  });
}
