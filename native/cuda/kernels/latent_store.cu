// A warp takes a token's latent and key, or one query head. All are read once; the norm reads the
// latent again, from L1. Bound by memory.
// SASS * store_latents: LDG STG SHFL !LDL !STL registers<=80 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

struct Latents {
  KvStep step;
  const float *q, *q_latent, *latent, *norm, *cosine, *sine;
  float* out;
  int heads, head_dim, latent_dim, pairs, width;  // Hq, D, C, J, W
  float eps, scale;
  bool interleaved;
};

SIMT_DEVICE int lane() {
  return static_cast<int>(threadIdx.x) % 32;
}

// The last 2J elements of a head, rotated, and the 0 up to a row's even end.
template <class E>
SIMT_DEVICE void store_tail(const Latents& s, int t, const float* u, E* to) {
  const float *cosine = s.cosine + static_cast<int64_t>(t) * s.pairs,
              *sine = s.sine + static_cast<int64_t>(t) * s.pairs;
  for (int j = lane(); j < s.pairs; j += 32) {
    const float a = u[s.interleaved ? 2 * j : j], b = u[s.interleaved ? 2 * j + 1 : j + s.pairs];
    store_elements(to + j, {a * cosine[j] - b * sine[j]});
    store_elements(to + j + s.pairs, {b * cosine[j] + a * sine[j]});
  }
  const int end = s.latent_dim + 2 * s.pairs;
  if (lane() == 0 && end < s.width) store_elements(to + 2 * s.pairs, {0.0f});
}

SIMT_DEVICE void store_query(const Latents& s, int t, int head) {
  const int64_t row = static_cast<int64_t>(t) * s.heads + head;
  const float* latent = s.q_latent + row * s.latent_dim;
  float* to = s.out + row * s.width;
  for (int i = lane(); i < s.latent_dim; i += 32) to[i] = latent[i];
  store_tail(s, t, s.q + (row + 1) * s.head_dim - 2 * s.pairs, to + s.latent_dim);
}

template <class E>
SIMT_DEVICE void store_latent(const Latents& s, int t) {
  const float* latent = s.latent + static_cast<int64_t>(t) * (s.latent_dim + 2 * s.pairs);
  E* to =
      static_cast<E*>(s.step.layer) + s.step.key_row(s.step.sequence_of(t), s.step.positions[t], 0);
  float squares = 0.0f;
#pragma unroll 4
  for (int i = lane(); i < s.latent_dim; i += 32) squares = fmaf(latent[i], latent[i], squares);
  const float mean = warp_sum(squares) / static_cast<float>(s.latent_dim),
              scale = 1.0f / sqrtf(mean + s.eps) * s.scale;
#pragma unroll 4
  for (int i = lane(); i < s.latent_dim; i += 32)
    store_elements(to + i, {latent[i] * scale * s.norm[i]});
  store_tail(s, t, latent + s.latent_dim, to + s.latent_dim);
}

// E: the cache's type. blockIdx.x is the token, blockIdx.y counts blocks of kWarps warps.
template <class E>
__global__ void __launch_bounds__(kThreads) store_latents(Latents s) {
  await_inputs();
  const int t = static_cast<int>(blockIdx.x),
            part = static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (part == 0) return store_latent<E>(s, t);
  if (part <= s.heads) store_query(s, t, part - 1);
}

}  // namespace

void latent_store(const LatentStoreArgs& args, Queue& queue) {
  const int heads = static_cast<int>(args.out->shape[1]);
  const Latents s = {kv_step(args),
                     args.q->f32(),
                     args.q_latent->f32(),
                     args.latent->f32(),
                     args.norm->f32(),
                     args.cosine->f32(),
                     args.sine->f32(),
                     args.out->f32(),
                     heads,
                     static_cast<int>(args.q->shape[1]) / heads,
                     static_cast<int>(args.norm->shape[0]),
                     static_cast<int>(args.cosine->shape[1]),
                     static_cast<int>(args.out->shape[2]),
                     args.eps,
                     args.scale,
                     args.interleaved};
  const simt::Launch how = {dim3(static_cast<unsigned>(args.out->shape[0]),
                                 static_cast<unsigned>((1 + heads + kWarps - 1) / kWarps)),
                            dim3(kThreads)};
  CudaQueue::from(queue).launch(
      args.cache->dtype == DType::kF32 ? store_latents<float> : store_latents<simt::bf16>, how, s);
}

}  // namespace moepp::cuda
