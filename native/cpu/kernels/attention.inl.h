#include "attention_cache.inl.h"
#include "attention_page.inl.h"
#include "latent_values.inl.h"
#include "rows.inl.h"

// The loop of ops/attention.h over the pages of one sequence, with running statistics. The
// exponential of a large score overflows, so the highest one so far is subtracted. Per query row
// these are the highest score so far (m), the sum of 2^(score - m) (l), and the values' sum
// weighted likewise (o). A row's steps are the same whatever rows share its tile. Per page they are
// all scores (each a sum over d in ascending order), then m, then l. Then comes o, over the keys in
// ascending order. d and keys advance one step (attention_cache.inl.h) at a time.
//
// A row is one (token, query head) pair. The rows of one key/value head in one sequence are
// numbered token by token. So a block of rows holds consecutive tokens, or the query heads that
// share the key/value head, or both. Either way each page is loaded from memory once per block.
// Source: Milakov and Gimelshein, Online normalizer calculation for softmax.
//
// A context is cut into chunks of kChunkKeys, each with m, l and o of its own. They are merged in
// ascending order. So several threads can share the chunks of one block without a change of the
// result's bits. That helps where there are fewer blocks than threads (decoding, few key/value
// heads).

constexpr int64_t kChunkKeys = 512;

#if defined(MOEPP_HAS_PAIRS)
using HalfCache = Bf16PairCache;
#else
using HalfCache = Bf16Cache;
#endif

// The pages from key `first` on, to key `last`, from nothing: `first` begins a page. after: what
// will be read next, or null.
template <class Cache>
void attend(AttentionBlock& block, const AttentionArgs& args, const int32_t* pages, int64_t head,
            int64_t first, int64_t last, const void* after) {
  const KvView& kv = *args.cache;
  const auto* cache = static_cast<const typename Cache::Element*>(kv.data);
  for (int64_t i = 0; i < block.rows * block.stride; i++) block.o[i] = 0.0f;
  for (int64_t i = 0; i < block.rows * kLanes; i++) block.total[i] = 0.0f;
  for (int64_t r = 0; r < block.rows; r++) block.highest[r] = -__builtin_inff();
  for (; first < last; first += kv.page_size) {
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t n = block.limit[r] - first, skipped = block.begin[r] - first;
      block.from[r] = skipped < 0 ? 0 : skipped;
      block.seen[r] = n < 0 ? 0 : n > kv.page_size ? kv.page_size : n;
      if (block.from[r] >= block.seen[r]) block.from[r] = block.seen[r] = 0;  // none of the page
    }
    const int32_t* page = pages + first / kv.page_size;
    const bool more = first + kv.page_size < last;
    const auto* next =
        more ? cache + kv_keys(kv, args.layer, page[1], head) : static_cast<decltype(cache)>(after);
    const auto* keys = cache + kv_keys(kv, args.layer, page[0], head);
    const auto* values = cache + kv_values(kv, args.layer, page[0], head);
    if (kv.holds_latents()) {
      auto* room = reinterpret_cast<typename Cache::Element*>(block.values);
      latent_values(keys, kv.page_size, most_seen(block, 0, static_cast<int>(block.rows)),
                    block.value_d, room);
      values = room;
    }
    attend_page<Cache>(block, keys, values, next);
  }
}

// m, l and o of the chunks so far of some rows.
struct Merged {
  float* o;  // [rows, stride]
  float highest[kBlockRows], total[kBlockRows];
};

// Takes in one chunk of one row: m, l and o. is_first: of those that the row sees.
inline void merge_chunk(Merged& merged, int64_t r, bool is_first, float highest, float total,
                        const float* o, int64_t stride) {
  float* into = merged.o + r * stride;
  if (is_first) {
    for (int64_t i = 0; i < stride; i += kLanes) store(into + i, load(o + i));
    merged.highest[r] = highest;
    merged.total[r] = total;
    return;
  }
  const float top = highest > merged.highest[r] ? highest : merged.highest[r];
  const float keep = top == merged.highest[r] ? 1.0f : exp2_nonpositive(merged.highest[r] - top);
  const float add = top == highest ? 1.0f : exp2_nonpositive(highest - top);
  for (int64_t i = 0; i < stride; i += kLanes)
    store(into + i, fma(load(o + i), set1(add), load(into + i) * set1(keep)));
  merged.highest[r] = top;
  merged.total[r] = merged.total[r] * keep + total * add;
}

// The rows of a task: [first, first + rows) of key/value head `head` in sequence `sequence`.
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
  // Head by head, since a head's pages fit a cache; within a head the last block first, since it
  // sees the most keys.
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
  int64_t group, chunk_keys, first_key, end_key;  // what any row sees: first_key .. end_key - 1
  AttentionBlock block;
  Merged merged;

  AttentionWork(const AttentionArgs& args, int64_t group, const AttentionTask& task,
                std::byte* scratch)
      : args(args), task(task), group(group) {
    block.d = args.cache->key_dim;
    block.value_d = args.out->shape[1] / args.q->shape[1];
    block.stride = (block.value_d + kLanes - 1) / kLanes * kLanes;
    block.page_size = args.cache->page_size;
    block.rows = task.rows;
    block.o = reinterpret_cast<float*>(scratch);
    merged.o = block.o + kBlockRows * block.stride;
    block.scores = merged.o + kBlockRows * block.stride;
    block.q = block.scores + kBlockRows * block.page_size;
    block.values = block.q + kBlockRows * block.d;
    chunk_keys = kChunkKeys / block.page_size * block.page_size;
    end_key = 0;
    first_key = INT64_MAX;
    for (int64_t r = 0; r < task.rows; r++) {
      const int64_t limit = int64_t{args.positions->i32()[start() + (task.first + r) / group]} + 1,
                    begin = args.window > 0 && limit > args.window ? limit - args.window : 0;
      block.begin[r] = begin;
      block.limit[r] = limit;
      first_key = begin < first_key ? begin : first_key;
      end_key = limit > end_key ? limit : end_key;
    }
  }
  int64_t start() const { return args.sequence_starts->i32()[task.sequence]; }
  int64_t row_number(int64_t r) const {  // of row r in q and out
    const int64_t index = task.first + r;
    return (start() + index / group) * args.q->shape[1] + task.head * group + index % group;
  }
  const float* query(int64_t r) const { return args.q->f32() + row_number(r) * block.d; }
  float* out(int64_t r) const { return args.out->f32() + row_number(r) * block.value_d; }
  // Asks the second-level cache for the queries, and for where their results go: rows that lie far
  // apart.
  void fetch_rows() const {
    for (int64_t r = 0; r < block.rows; r++) {
      for (int64_t i = 0; i < block.d; i += 16) __builtin_prefetch(query(r) + i, 0, 2);
      for (int64_t i = 0; i < block.value_d; i += 16) __builtin_prefetch(out(r) + i, 1, 2);
    }
  }
  // The chunks that any row sees: first_chunk() .. end_chunk() - 1.
  int64_t first_chunk() const { return first_key / chunk_keys; }
  int64_t end_chunk() const { return (end_key + chunk_keys - 1) / chunk_keys; }
  bool sees(int64_t r, int64_t chunk) const {
    return block.limit[r] > chunk * chunk_keys && block.begin[r] < (chunk + 1) * chunk_keys;
  }
  void merge(int64_t r, int64_t chunk, float highest, float total, const float* o) {
    if (sees(r, chunk))
      merge_chunk(merged, r, chunk == block.begin[r] / chunk_keys, highest, total, o, block.stride);
  }

  void take_queries() {
    args.cache->dtype == DType::kF32 ? take_queries_for<F32Cache>() : take_queries_for<HalfCache>();
  }
  template <class Cache>
  void take_queries_for() {
    auto* to = reinterpret_cast<typename Cache::Operand*>(block.q);
    const float scale = args.scale * 1.44269504088896341f;  // log2(e)
    for (int64_t r = 0; r < block.rows; r++) {
      const float* q = query(r);
      for (int64_t i = 0; i < block.d; i++) to[r * block.d + i] = Cache::to_operand(q[i] * scale);
    }
  }
  // The first page of a chunk that any row sees.
  int64_t first_page(int64_t chunk) const {
    const int64_t first = chunk * chunk_keys;
    return (first > first_key ? first : first_key) / block.page_size;
  }
  const void* keys_of(int64_t chunk) const {
    const int32_t* pages = args.page_table->i32() + task.sequence * args.page_table->shape[1];
    const int64_t first = kv_keys(*args.cache, args.layer, pages[first_page(chunk)], task.head);
    return static_cast<const char*>(args.cache->data) + first * dtype_size(args.cache->dtype);
  }
  void attend_chunk(int64_t chunk, const void* after) {
    const int32_t* pages = args.page_table->i32() + task.sequence * args.page_table->shape[1];
    const int64_t first = first_page(chunk) * block.page_size, end = (chunk + 1) * chunk_keys,
                  last = end < end_key ? end : end_key;
    if (args.cache->dtype == DType::kF32) {
      attend<F32Cache>(block, args, pages, task.head, first, last, after);
    } else {
      attend<HalfCache>(block, args, pages, task.head, first, last, after);
    }
  }
  void write() const {
    for (int64_t r = 0; r < block.rows; r++) {
      float* to = out(r);
      for (int64_t i = 0; i < block.value_d; i++)
        to[i] = merged.o[r * block.stride + i] / merged.total[r];
    }
  }
};

// next: what this thread is likely to do next, or null.
inline void attend_whole(AttentionWork work, const AttentionWork* next) {
  work.take_queries();
  if (next != nullptr) next->fetch_rows();
  const void* after = next == nullptr ? nullptr : next->keys_of(next->first_chunk());
  for (int64_t chunk = work.first_chunk(); chunk < work.end_chunk(); chunk++) {
    work.attend_chunk(chunk, chunk + 1 < work.end_chunk() ? work.keys_of(chunk + 1) : after);
    const AttentionBlock& b = work.block;
    for (int64_t r = 0; r < b.rows; r++)
      work.merge(r, chunk, b.highest[r], b.sum(r), b.o + r * b.stride);
  }
  work.write();
}

// A chunk's results for a row: m and l in a vector of their own, then o.
inline int64_t partial_floats(int64_t stride) {
  return kLanes + stride;
}

// The part's number counts from the first chunk of the task.
inline void attend_part(AttentionWork work, int64_t part, float* partial) {
  const int64_t chunk = work.first_chunk() + part;
  if (chunk >= work.end_chunk()) return;
  work.take_queries();
  work.attend_chunk(chunk, nullptr);
  const AttentionBlock& b = work.block;
  const int64_t size = partial_floats(b.stride);
  for (int64_t r = 0; r < b.rows; r++) {
    float* row = partial + r * size;
    row[0] = b.highest[r];
    row[1] = b.sum(r);
    for (int64_t i = 0; i < b.stride; i += kLanes)
      store(row + kLanes + i, load(b.o + r * b.stride + i));
  }
}

inline void merge_parts(AttentionWork work, int64_t block_rows, const float* partials) {
  const int64_t stride = work.block.stride, size = partial_floats(stride);
  for (int64_t chunk = work.first_chunk(); chunk < work.end_chunk(); chunk++) {
    for (int64_t r = 0; r < work.block.rows; r++) {
      const float* row = partials + ((chunk - work.first_chunk()) * block_rows + r) * size;
      work.merge(r, chunk, row[0], row[1], row + kLanes);
    }
  }
  work.write();
}

// Tasks whose keys are shared out among threads: fewer than three for each thread, so that this is
// no limit on most machines.
constexpr int64_t kMostSplit = 512;

// The most chunks that the rows of one task see.
inline int64_t most_chunks(const AttentionPlan& plan, ThreadPool& pool) {
  int64_t most = 0;
  for (int64_t i = 0, blocks = plan.blocks(); i < blocks; i++) {  // the same for each head
    const AttentionWork work(plan.args, plan.group, plan.task(i, blocks), pool.scratch(0));
    const int64_t chunks = work.end_chunk() - work.first_chunk();
    most = chunks > most ? chunks : most;
  }
  return most;
}

inline void attention(const AttentionArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t hkv = args.cache->kv_heads, threads = pool.threads(),
                value_dim = args.out->shape[1] / args.q->shape[1];
  AttentionPlan plan = {args, args.q->shape[1] / hkv, kBlockRows};
  // Smaller blocks for idle threads. A token's heads that share keys are parted only where there
  // are no chunks to share out, since each part reads the keys.
  while (plan.block_rows > kAttentionRows && plan.blocks() * hkv < threads &&
         (plan.block_rows / 2 >= plan.group || most_chunks(plan, pool) <= 1))
    plan.block_rows /= 2;
  const int64_t blocks = plan.blocks(), tasks = blocks * hkv;
  const int64_t chunks = tasks < 3 * threads && tasks <= kMostSplit ? most_chunks(plan, pool) : 0;
  const int64_t floats =
      plan.block_rows * partial_floats((value_dim + kLanes - 1) / kLanes * kLanes);
  const bool fits = tasks * chunks * floats * 4 <= static_cast<int64_t>(kJobScratchBytes);
  if (chunks <= 1 || threads == 1 || !fits) {
    pool.parallel_for(tasks, [&](int64_t index, int thread) {
      std::byte* scratch = pool.scratch(thread);
      // The threads take tasks in turn, so that this one's next is likely to be `threads` further.
      const auto work = [&](int64_t i) {
        return AttentionWork(args, plan.group, plan.task(i, blocks), scratch);
      };
      if (index + threads < tasks) {
        const AttentionWork next = work(index + threads);
        attend_whole(work(index), &next);
      } else {
        attend_whole(work(index), nullptr);
      }
    });
    return;
  }
  // One job, as its scratch is another's when it ends: who leaves the last of a task's parts merges
  // them.
  float* partials = reinterpret_cast<float*>(pool.job_scratch());
  int32_t parts_done[kMostSplit] = {};
  pool.parallel_for(tasks * chunks, [&](int64_t index, int thread) {
    const int64_t of = index / chunks;
    const AttentionWork work(args, plan.group, plan.task(of, blocks), pool.scratch(thread));
    attend_part(work, index % chunks, partials + index * floats);
    if (__atomic_add_fetch(parts_done + of, 1, __ATOMIC_ACQ_REL) == chunks) {
      merge_parts(work, plan.block_rows, partials + of * chunks * floats);
    }
  });
}
