// One block per token reads the token's row of qkv once, and writes each of its parts once. Bound
// by memory.
// SASS * rope_rows: LDG STG !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256;

struct Rope {
  KvStep step;
  const float *qkv, *cosine, *sine;
  float* q;
  int hq;
};

// out[j] = u[j] cos - u[j + J] sin; out[j + J] = u[j + J] cos + u[j] sin, for N values of j.
template <int N>
SIMT_DEVICE void rotate(float (&low)[N], float (&high)[N], const float* cosine, const float* sine) {
  float c[N], s[N];
  load_elements(cosine, c);
  load_elements(sine, s);
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float a = low[i], b = high[i];
    low[i] = a * c[i] - b * s[i];
    high[i] = b * c[i] + a * s[i];
  }
}

// E: the cache's type. A thread takes N dimensions of a head and the N that they are rotated with.
template <class E, int N>
__global__ void __launch_bounds__(kThreads) rope_rows(Rope r) {
  await_inputs();
  const int t = static_cast<int>(blockIdx.x), d = r.step.head_dim, half = d / 2,
            hkv = r.step.kv_heads;
  const int heads = r.hq + 2 * hkv, pieces = half / N;
  const float* row = r.qkv + static_cast<int64_t>(t) * heads * d;
  const int64_t key_row = r.step.key_row(r.step.sequence_of(t), r.step.positions[t], 0);
  E* keys = static_cast<E*>(r.step.layer) + key_row;
  for (int i = threadIdx.x; i < heads * pieces; i += kThreads) {
    const int head = i / pieces, j = i % pieces * N;
    float low[N], high[N];
    load_elements(row + head * d + j, low);
    load_elements(row + head * d + half + j, high);
    if (head < r.hq + hkv) {
      const int64_t at = static_cast<int64_t>(t) * half + j;
      rotate(low, high, r.cosine + at, r.sine + at);
    }
    if (head < r.hq) {
      float* q = r.q + (static_cast<int64_t>(t) * r.hq + head) * d + j;
      store_elements(q, low);
      store_elements(q + half, high);
    } else {
      const bool value = head >= r.hq + hkv;
      const int kv_head = head - r.hq - (value ? hkv : 0);
      E* to =
          keys + (2 * static_cast<int64_t>(kv_head) + (value ? 1 : 0)) * r.step.value_offset() + j;
      store_elements(to, low);
      store_elements(to + half, high);
    }
  }
}

template <class E>
void rope(const Rope& r, const simt::Launch& how, CudaQueue& queue) {
  queue.launch(r.step.head_dim % 8 == 0 ? rope_rows<E, 4> : rope_rows<E, 1>, how, r);
}

}  // namespace

void rope_store(const RopeStoreArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Rope r = {kv_step(args),    args.qkv->f32(), args.cosine->f32(),
                  args.sine->f32(), args.q->f32(),   static_cast<int>(args.q->shape[1])};
  const simt::Launch how = {dim3(static_cast<unsigned>(args.q->shape[0])), dim3(kThreads)};
  args.cache->dtype == DType::kF32 ? rope<float>(r, how, stream) : rope<simt::bf16>(r, how, stream);
}

}  // namespace moepp::cuda
