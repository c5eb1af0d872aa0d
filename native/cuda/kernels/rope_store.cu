// A warp takes one head of a token's row of qkv: it reads the head once, and writes it once. The
// head waits in shared memory for its rotation, since a lane's pair may be another lane's. Bound by
// memory.
// SASS * rope_heads: LDG STG !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kPairs = static_cast<int>(kMostHeadDim) / 64;  // neighbours that a lane has at most

struct Rope {
  KvStep step;
  const float *qkv, *cosine, *sine, *q_norm, *k_norm;
  float* q;
  int hq, pairs;  // pairs that are rotated: J
  float eps;
  bool interleaved;
};

SIMT_DEVICE void store_two(float* to, float2 two) {
  *reinterpret_cast<float2*>(to) = two;
}
SIMT_DEVICE void store_two(simt::bf16* to, float2 two) {
  *reinterpret_cast<uint32_t*>(to) = simt::pack_bf16(two.x, two.y);
}

// A lane's dimensions of a head: 2 lane, 2 lane + 1, and every 64 further.
struct HeadPart {
  float2 u[kPairs];
  int first, d;

  SIMT_DEVICE HeadPart(const float* head, int d)
      : first(2 * (static_cast<int>(threadIdx.x) % 32)), d(d) {
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
      u[i] = first + 64 * i < d ? *reinterpret_cast<const float2*>(head + first + 64 * i)
                                : make_float2(0.0f, 0.0f);
    }
  }
  SIMT_DEVICE void norm(const float* weight, float eps) {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPairs; i++) squares = fmaf(u[i].x, u[i].x, fmaf(u[i].y, u[i].y, squares));
    const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(d) + eps);
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
      if (first + 64 * i >= d) break;
      const float2 w = *reinterpret_cast<const float2*>(weight + first + 64 * i);
      u[i] = make_float2(u[i].x * scale * w.x, u[i].y * scale * w.y);
    }
  }
  template <class E>
  SIMT_DEVICE void store(E* to) const {
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
      if (first + 64 * i < d) store_two(to + first + 64 * i, u[i]);
    }
  }
};

// Dimension i of the head u, rotated: ops/rope_store.h.
SIMT_DEVICE float rotated(const Rope& r, const float* u, const float* cosine, const float* sine,
                          int i) {
  const int j = i < r.pairs ? i : i - r.pairs;
  if (j >= r.pairs) return u[i];
  const float a = u[r.interleaved ? 2 * j : j], b = u[r.interleaved ? 2 * j + 1 : j + r.pairs];
  return i < r.pairs ? a * cosine[j] - b * sine[j] : b * cosine[j] + a * sine[j];
}

SIMT_DEVICE void rotate(const Rope& r, int t, HeadPart& part, float* u) {
  const float *cosine = r.cosine + static_cast<int64_t>(t) * r.pairs,
              *sine = r.sine + static_cast<int64_t>(t) * r.pairs;
  part.store(u);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kPairs; i++) {
    const int at = part.first + 64 * i;
    if (at < part.d)
      part.u[i] = make_float2(rotated(r, u, cosine, sine, at), rotated(r, u, cosine, sine, at + 1));
  }
}

// E: the cache's type. blockIdx.x is the token, blockIdx.y counts blocks of kWarps heads.
template <class E>
__global__ void __launch_bounds__(kThreads) rope_heads(Rope r) {
  await_inputs();
  auto* heads = simt::smem<float>();  // [kWarps][kMostHeadDim]
  const int warp = static_cast<int>(threadIdx.x) / 32, t = static_cast<int>(blockIdx.x),
            head = static_cast<int>(blockIdx.y) * kWarps + warp, hkv = r.step.kv_heads,
            d = r.step.key_dim, value_d = r.step.value_dim;
  if (head >= r.hq + 2 * hkv) return;
  const float* row = r.qkv + static_cast<int64_t>(t) * ((r.hq + hkv) * d + hkv * value_d);
  E* cache = static_cast<E*>(r.step.layer);
  if (head >= r.hq + hkv) {
    const int kv_head = head - r.hq - hkv;
    const HeadPart value(row + (r.hq + hkv) * d + kv_head * value_d, value_d);
    value.store(cache + r.step.value_row(r.step.sequence_of(t), r.step.positions[t], kv_head));
    return;
  }
  HeadPart part(row + head * d, d);
  const bool query = head < r.hq;
  const float* norm = query ? r.q_norm : r.k_norm;
  if (norm != nullptr) part.norm(norm, r.eps);
  rotate(r, t, part, heads + warp * kMostHeadDim);
  if (query) {
    part.store(r.q + (static_cast<int64_t>(t) * r.hq + head) * d);
  } else {
    part.store(cache + r.step.key_row(r.step.sequence_of(t), r.step.positions[t], head - r.hq));
  }
}

const float* data_of(const Tensor* tensor) {
  return tensor == nullptr ? nullptr : tensor->f32();
}

}  // namespace

void rope_store(const RopeStoreArgs& args, Queue& queue) {
  const Rope r = {kv_step(args),
                  args.qkv->f32(),
                  args.cosine->f32(),
                  args.sine->f32(),
                  data_of(args.q_norm),
                  data_of(args.k_norm),
                  args.q->f32(),
                  static_cast<int>(args.q->shape[1]),
                  static_cast<int>(args.cosine->shape[1]),
                  args.eps,
                  args.interleaved};
  const int heads = r.hq + 2 * r.step.kv_heads;
  const simt::Launch how = {dim3(static_cast<unsigned>(args.q->shape[0]),
                                 static_cast<unsigned>((heads + kWarps - 1) / kWarps)),
                            dim3(kThreads), kWarps * kMostHeadDim * sizeof(float)};
  CudaQueue::from(queue).launch(
      args.cache->dtype == DType::kF32 ? rope_heads<float> : rope_heads<simt::bf16>, how, r);
}

}  // namespace moepp::cuda
