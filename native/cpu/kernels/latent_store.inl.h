#include "rope_store.inl.h"

// Rotates the last 2J elements of a head that ends at `end`.
template <class E>
void rotate_tail(const LatentStoreArgs& args, const float* end, int64_t t, E* out) {
  const int64_t j = args.cosine->shape[1];
  const float* u = end - 2 * j;
  float halves[kMostLatentDim];
  if (args.interleaved) part_pairs(u, j, 2 * j, halves);
  rotate(args.interleaved ? halves : u, args.cosine->f32() + t * j, args.sine->f32() + t * j, j,
         2 * j, out);
}

// Query heads [first, last) of token t.
inline void write_queries(const LatentStoreArgs& args, int64_t t, int64_t first, int64_t last) {
  const int64_t heads = args.out->shape[1], width = args.out->shape[2],
                latent = args.norm->shape[0], d = args.q->shape[1] / heads;
  for (int64_t head = t * heads + first; head < t * heads + last; head++) {
    float* out = args.out->f32() + head * width;
    __builtin_memcpy(out, args.q_latent->f32() + head * latent,
                     static_cast<size_t>(latent) * sizeof(float));
    rotate_tail(args, args.q->f32() + (head + 1) * d, t, out + latent);
    if (args.latent->shape[1] < width) out[width - 1] = 0.0f;
  }
}

// The latents and keys of a block of tokens.
template <class E>
void store_latents(const LatentStoreArgs& args, const RopeBlock& block) {
  const int64_t stored = args.latent->shape[1], width = args.out->shape[2],
                latent = args.norm->shape[0];
  E* rows = reinterpret_cast<E*>(block.scratch);
  fetch_head<E>(args, block, 0);
  for (int64_t i = 0; i < block.count; i++) {
    const int64_t t = block.first + i;
    const float* from = args.latent->f32() + t * stored;
    E* row = rows + i * width;
    SumOfSquares squares;
    for (int64_t c = 0; c < latent; c += kLanes)
      squares.add(load_n(from + c, latent - c < kLanes ? static_cast<int>(latent - c) : kLanes));
    const Vf scale = set1(squares.inverse_rms(latent, args.eps) * args.scale);
    for (int64_t c = 0; c < latent; c += kLanes) {
      const int n = latent - c < kLanes ? static_cast<int>(latent - c) : kLanes;
      store_n(row + c, load_n(from + c, n) * scale * load_n(args.norm->f32() + c, n), n);
    }
    rotate_tail(args, from + stored, t, row + latent);
    if (stored < width) row[width - 1] = E{0};
  }
  store_keys(*args.cache, args.layer, 0, block, rows);
}

inline void latent_store(const LatentStoreArgs& args, Queue& queue) {
  ThreadPool& pool = static_cast<ThreadPool&>(queue);
  const int64_t tokens = args.out->shape[0], heads = args.out->shape[1],
                blocks = RopeBlock::blocks(tokens);
  // Few blocks: the heads are shared out, too. The first share comes with the latents.
  const int64_t shares = blocks < pool.threads() && heads > 1 ? 2 : 1;
  pool.parallel_for(blocks * shares, [&](int64_t task, int thread) {
    RopeBlock block(task / shares, tokens, pool.scratch(thread));
    const int64_t share = task % shares;
    for (int64_t i = 0; i < block.count; i++)
      write_queries(args, block.first + i, heads * share / shares, heads * (share + 1) / shares);
    if (share > 0) return;
    place_tokens(args, block);
    if (args.cache->dtype == DType::kF32) {
      store_latents<float>(args, block);
    } else {
      store_latents<uint16_t>(args, block);
    }
  });
}
