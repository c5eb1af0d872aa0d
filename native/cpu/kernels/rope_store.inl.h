#include "rows.inl.h"

// out[j] = u[j] cos - u[j + J] sin; out[j + J] = u[j + J] cos + u[j] sin.
inline void rotate(const float* u, const float* cosine, const float* sine, int64_t j_count, float* out) {
  for (int64_t j = 0; j < j_count; j += kLanes) {
    const int n = j_count - j < kLanes ? static_cast<int>(j_count - j) : kLanes;
    const Vf a = load_n(u + j, n), b = load_n(u + j_count + j, n), c = load_n(cosine + j, n), s = load_n(sine + j, n);
    store_n(out + j, a * c - b * s, n);
    store_n(out + j_count + j, b * c + a * s, n);
  }
}

inline void store_one(float* p, float x) {
  *p = x;
}
inline void store_one(uint16_t* p, float x) {
  *p = f32_to_bf16(x);
}

// One token's keys and values of one head; `key` is room for D floats.
template <class E>
void store_head(const RopeStoreArgs& args, const float* k, const float* v, int64_t t, int64_t page, int64_t s, int64_t head,
                float* key) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.head_dim, j = d / 2;
  rotate(k + head * d, args.cosine->f32() + t * j, args.sine->f32() + t * j, j, key);
  E* keys = static_cast<E*>(kv.data) + kv_keys(kv, args.layer, page, head) + s;
  for (int64_t i = 0; i < d; i++) store_one(keys + i * kv.page_size, key[i]);
  E* values = static_cast<E*>(kv.data) + kv_values(kv, args.layer, page, head) + s * d;
  for (int64_t i = 0; i < d; i += kLanes) {
    const int n = d - i < kLanes ? static_cast<int>(d - i) : kLanes;
    store_n(values + i, load_n(v + head * d + i, n), n);
  }
}

// Tokens [first, last), one head after the other: the cache lines that a key's D stores touch then serve the next token, too.
template <class E>
void rope_store_tokens(const RopeStoreArgs& args, int64_t first, int64_t last, float* key) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.head_dim, j = d / 2, hq = args.q->shape[1], hkv = kv.kv_heads, m = args.page_table->shape[1];
  const int64_t width = (hq + 2 * hkv) * d;
  const int32_t* starts = args.sequence_starts->i32();
  for (int64_t t = first; t < last; t++) {
    for (int64_t head = 0; head < hq; head++) {
      rotate(args.qkv->f32() + t * width + head * d, args.cosine->f32() + t * j, args.sine->f32() + t * j, j,
             args.q->f32() + (t * hq + head) * d);
    }
  }
  for (int64_t head = 0; head < hkv; head++) {
    int64_t sequence = 0;
    for (int64_t t = first; t < last; t++) {
      sequence = sequence_of(starts, t, sequence);
      const int64_t p = args.positions->i32()[t];
      const int64_t page = args.page_table->i32()[sequence * m + p / kv.page_size];
      const float* k = args.qkv->f32() + t * width + hq * d;
      store_head<E>(args, k, k + hkv * d, t, page, p % kv.page_size, head, key);
    }
  }
}

inline void rope_store(const RopeStoreArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  constexpr int64_t kTokens = 16;
  const int64_t tokens = args.q->shape[0];
  pool.parallel_for((tokens + kTokens - 1) / kTokens, [&](int64_t task, int thread) {
    const int64_t first = task * kTokens, last = first + kTokens < tokens ? first + kTokens : tokens;
    float* key = reinterpret_cast<float*>(pool.scratch(thread));
    if (args.cache->dtype == DType::kF32) {
      rope_store_tokens<float>(args, first, last, key);
    } else {
      rope_store_tokens<uint16_t>(args, first, last, key);
    }
  });
}
