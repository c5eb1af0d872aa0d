#pragma once
#include "rms_norm.inl.h"
#include "rows.inl.h"

// The pairs of neighbours of the first 2J dimensions as two halves; the others as they are.
inline void part_pairs(const float* u, int64_t j_count, int64_t d, float* halves) {
  for (int64_t j = 0; j < j_count; j++) {
    halves[j] = u[2 * j];
    halves[j_count + j] = u[2 * j + 1];
  }
  for (int64_t i = 2 * j_count; i < d; i++) halves[i] = u[i];
}

// One head as the rotation takes it: normed, and with the pairs of 2J dimensions as two halves. It
// is the head itself, or made in `room`.
struct HeadInput {
  const RopeStoreArgs& args;
  const float* norm;  // or null
  int64_t d, j_count;
  alignas(64) float room[kMostHeadDim], halves[kMostHeadDim];

  HeadInput(const RopeStoreArgs& args, const Tensor* norm)
      : args(args),
        norm(norm != nullptr ? norm->f32() : nullptr),
        d(args.q->shape[2]),
        j_count(args.cosine->shape[1]) {}

  const float* of(const float* head) {
    if (norm != nullptr) head = normed(head);
    if (!args.interleaved) return head;
    part_pairs(head, j_count, d, halves);
    return halves;
  }

 private:
  const float* normed(const float* head) {
    SumOfSquares squares;
    int64_t i = 0;
    for (; i + 2 * kLanes <= d; i += 2 * kLanes)
      squares.add(load(head + i), load(head + i + kLanes));
    for (; i < d; i += kLanes)
      squares.add(load_n(head + i, d - i < kLanes ? static_cast<int>(d - i) : kLanes));
    scale_row(head, squares.inverse_rms(d, args.eps), norm, room, d);
    return room;
  }
};

// out[j] = u[j] cos - u[j + J] sin; out[j + J] = u[j + J] cos + u[j] sin; from 2J on out = u.
template <class E>
void rotate(const float* u, const float* cosine, const float* sine, int64_t j_count, int64_t d,
            E* out) {
  for (int64_t j = 0; j < j_count; j += kLanes) {
    const int n = j_count - j < kLanes ? static_cast<int>(j_count - j) : kLanes;
    const Vf a = load_n(u + j, n), b = load_n(u + j_count + j, n), c = load_n(cosine + j, n),
             s = load_n(sine + j, n);
    store_n(out + j, a * c - b * s, n);
    store_n(out + j_count + j, b * c + a * s, n);
  }
  for (int64_t i = 2 * j_count; i < d; i += kLanes) {
    const int n = d - i < kLanes ? static_cast<int>(d - i) : kLanes;
    store_n(out + i, load_n(u + i, n), n);
  }
}

// A block of tokens: their place in the cache, and room for their rotated keys [heads][kTokens][D]
// in the thread's scratch.
struct RopeBlock {
  // tokens that one cache line of a page holds of one dimension, in f32
  static constexpr int64_t kTokens = 16;
  static constexpr int64_t kKeyBytes = 512 * 1024;
  int64_t first, count;
  int64_t page[kTokens], row[kTokens];
  std::byte* scratch;

  static int64_t blocks(int64_t tokens) { return (tokens + kTokens - 1) / kTokens; }
  RopeBlock(int64_t index, int64_t tokens, std::byte* scratch)
      : first(index * kTokens),
        count(first + kTokens < tokens ? kTokens : tokens - first),
        scratch(scratch) {}

  // True if token i and the next share a pair of rows.
  bool beside(int64_t i) const {
    return i + 1 < count && row[i] % 2 == 0 && row[i + 1] == row[i] + 1 && page[i + 1] == page[i];
  }
};

template <class Args>
void place_tokens(const Args& args, RopeBlock& block) {
  const int64_t page_size = args.cache->page_size, columns = args.page_table->shape[1];
  int64_t sequence = 0;
  for (int64_t i = 0; i < block.count; i++) {
    sequence = sequence_of(args.sequence_starts->i32(), block.first + i, sequence);
    const int64_t position = args.positions->i32()[block.first + i];
    block.page[i] = args.page_table->i32()[sequence * columns + position / page_size];
    block.row[i] = position % page_size;
  }
}

// Query heads [first, last).
inline void rotate_queries(const RopeStoreArgs& args, int64_t t, int64_t first, int64_t last) {
  const int64_t hq = args.q->shape[1], d = args.q->shape[2], j = args.cosine->shape[1];
  HeadInput input(args, args.q_norm);
  for (int64_t head = first; head < last; head++) {
    rotate(input.of(args.qkv->f32() + t * args.qkv->shape[1] + head * d),
           args.cosine->f32() + t * j, args.sine->f32() + t * j, j, d,
           args.q->f32() + (t * hq + head) * d);
  }
}

// A page's elements come in words of four bytes: keys [words of D][S], values [words of S][D]; one
// f32 or two bf16 (kv_layout.h).
typedef uint32_t __attribute__((may_alias)) CacheWord;
template <class E>
constexpr int64_t kInWord = 4 / static_cast<int64_t>(sizeof(E));

// Asks for the lines that a head's keys and values will be written to. A key's words lie in a line
// each, which decoding finds in memory; stores wait for them one after the other, prefetches do
// not.
template <class E, class Args>
void fetch_head(const Args& args, const RopeBlock& block, int64_t head) {
  const KvView& kv = *args.cache;
  const E* cache = static_cast<const E*>(kv.data);
  constexpr int64_t line = 16;  // words
  for (int64_t i = 0; i < block.count; i++) {
    const E* values = cache + kv_values(kv, args.layer, block.page[i], head);
    for (int64_t e = 0; e < kv.value_dim; e += line)
      __builtin_prefetch(values + kv_value(kv, block.row[i], e), 1);
    // the same lines as the token before
    if (i > 0 && block.page[i] == block.page[i - 1] && block.row[i] % line != 0) continue;
    const E* keys = cache + kv_keys(kv, args.layer, block.page[i], head);
    for (int64_t e = 0; e < kv.key_dim; e += kInWord<E>)
      __builtin_prefetch(keys + kv_key(kv, block.row[i], e), 1);
  }
}

// The values of one head of a token, and where bf16 keeps the next token's beside them, of that
// token, too.
inline void store_values(float* to, const float* v, const float*, int64_t d) {
  for (int64_t e = 0; e < d; e += kLanes) {
    const int n = d - e < kLanes ? static_cast<int>(d - e) : kLanes;
    store_n(to + e, load_n(v + e, n), n);
  }
}
inline void store_values(uint16_t* to, const float* v, const float* next, int64_t d) {
  for (int64_t e = 0; e < d; e += kLanes) {
    const int n = d - e < kLanes ? static_cast<int>(d - e) : kLanes;
    uint16_t here[kLanes], beside[kLanes];
    store(here, load_n(v + e, n));
    if (next == nullptr) {
      for (int i = 0; i < n; i++) to[2 * (e + i)] = here[i];
      continue;
    }
    store(beside, load_n(next + e, n));
    for (int i = 0; i < n; i++) {
      const uint16_t pair[2] = {here[i], beside[i]};
      __builtin_memcpy(to + 2 * (e + i), pair, 4);
    }
  }
}

// Writes a head's keys, `rotated` [kTokens][D], so that a line of the page is filled at once.
template <class E>
void store_keys(const KvView& kv, int32_t layer, int64_t head, const RopeBlock& block,
                const E* rotated) {
  E* cache = static_cast<E*>(kv.data);
  const int64_t words = kv.key_dim / kInWord<E>;
  CacheWord* keys[RopeBlock::kTokens];
  for (int64_t i = 0; i < block.count; i++) {
    keys[i] = reinterpret_cast<CacheWord*>(cache + kv_keys(kv, layer, block.page[i], head)) +
              block.row[i];
  }
  const auto* from = reinterpret_cast<const CacheWord*>(rotated);
  for (int64_t w = 0; w < words; w++) {
    for (int64_t i = 0; i < block.count; i++) keys[i][w * kv.page_size] = from[i * words + w];
  }
}

// Keys and values of heads [first, last). A token's row of qkv is read from end to end, in memory
// order. The keys are transposed afterwards. (Writing
// each key straight to its D lines, head by head, took twice as long with 2048 tokens on a Zen 5
// core.)
template <class E>
void store_heads(const RopeStoreArgs& args, const RopeBlock& block, int64_t first, int64_t last) {
  const KvView& kv = *args.cache;
  E* cache = static_cast<E*>(kv.data);
  E* rotated = reinterpret_cast<E*>(block.scratch);
  const int64_t d = kv.key_dim, value_d = kv.value_dim, j = args.cosine->shape[1],
                width = args.qkv->shape[1];
  HeadInput input(args, args.k_norm);
  fetch_head<E>(args, block, first);
  for (int64_t i = 0; i < block.count; i++) {
    const int64_t t = block.first + i;
    const float* k = args.qkv->f32() + t * width + args.q->shape[1] * d;
    for (int64_t head = first; head < last; head++) {
      rotate(input.of(k + head * d), args.cosine->f32() + t * j, args.sine->f32() + t * j, j, d,
             rotated + ((head - first) * RopeBlock::kTokens + i) * d);
    }
    if (kInWord<E> == 2 && i > 0 && block.beside(i - 1)) continue;  // stored with the token before
    const float* v = k + kv.kv_heads * d;
    const float* next = kInWord<E> == 2 && block.beside(i) ? v + width : nullptr;
    for (int64_t head = first; head < last; head++) {
      E* values =
          cache + kv_values(kv, args.layer, block.page[i], head) + kv_value(kv, block.row[i], 0);
      store_values(values, v + head * value_d, next == nullptr ? nullptr : next + head * value_d,
                   value_d);
    }
  }
  for (int64_t head = first; head < last; head++) {
    if (head + 1 < last) fetch_head<E>(args, block, head + 1);
    store_keys(kv, args.layer, head, block, rotated + (head - first) * RopeBlock::kTokens * d);
  }
}

inline void rope_store(const RopeStoreArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t tokens = args.q->shape[0], heads = args.cache->kv_heads, d = args.cache->key_dim,
                group = args.q->shape[1] / heads;
  const int64_t blocks = RopeBlock::blocks(tokens);
  // Heads of one task: those whose keys fit the scratch, and fewer where blocks of tokens do not
  // occupy the threads.
  const int64_t most = RopeBlock::kKeyBytes / (RopeBlock::kTokens * d * 4);
  const int64_t parts = blocks < pool.threads() ? pool.threads() : 1,
                fair = (heads + parts - 1) / parts;
  const int64_t at_once = fair < most ? fair : most, head_tasks = (heads + at_once - 1) / at_once;
  pool.parallel_for(blocks * head_tasks, [&](int64_t task, int thread) {
    RopeBlock block(task / head_tasks, tokens, pool.scratch(thread));
    const int64_t first = task % head_tasks * at_once,
                  last = first + at_once < heads ? first + at_once : heads;
    place_tokens(args, block);
    for (int64_t i = 0; i < block.count; i++)
      rotate_queries(args, block.first + i, first * group, last * group);
    if (args.cache->dtype == DType::kF32) {
      store_heads<float>(args, block, first, last);
    } else {
      store_heads<uint16_t>(args, block, first, last);
    }
  });
}
