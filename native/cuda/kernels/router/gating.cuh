// Shared by route_top_k and norm_route_top_k: gating by one warp per token, and a counting sort of
// the FFN picks. The sort is stable in (t, k), and each block places its own picks. A block counts
// for itself how many picks come before them. It reads all picks for that, 4 bytes each from L2. So
// blocks need not wait for one another, and nothing is left in memory between them.
#pragma once

#include "cuda/cuda_queue.h"
#include "cuda/reduce.cuh"
#include "ops.h"

namespace moepp::cuda {

constexpr int kLogitsPerLane = 8;  // E up to 256

struct Routing {
  const float *logits, *scores;
  int32_t *indices, *offsets, *order, *rows;
  float *weights, *coefficients;
  int tokens, e, c, n, k;
  float norm_std, input_scale;
  bool mixtral;
};

// One token's logits: lane l has those of the experts l, l + 32, ...
struct Logits {
  float v[kLogitsPerLane];

  SIMT_DEVICE void load(const Routing& r, int64_t t) {
#pragma unroll
    for (int i = 0; i < kLogitsPerLane; i++) {
      const int expert = static_cast<int>(threadIdx.x) % 32 + 32 * i;
      v[i] = expert < r.e ? r.logits[t * r.e + expert] : 0.0f;
    }
  }
};

// The K largest logits, the higher first, equal ones in ascending order of index; lane k gets the
// k-th. A NaN counts as minus infinity, so that indices are always K different experts.
SIMT_DEVICE int pick_experts(const Routing& r, const Logits& logits) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned taken = 0;  // of this lane's experts
  int pick = 0;
  for (int k = 0; k < r.k; k++) {
    float best = -INFINITY;
    int index = r.e;
#pragma unroll
    for (int i = 0; i < kLogitsPerLane; i++) {
      const int expert = lane + 32 * i;
      const float value = logits.v[i] == logits.v[i] ? logits.v[i] : -INFINITY;
      const bool open = expert < r.e && (taken >> i & 1) == 0;
      if (open && (value > best || index == r.e)) best = value, index = expert;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const float value = __shfl_xor_sync(simt::kFullMask, best, distance);
      const int expert = __shfl_xor_sync(simt::kFullMask, index, distance);
      if (value > best || (value == best && expert < index)) best = value, index = expert;
    }
    if (index % 32 == lane) taken |= 1u << (index / 32);
    if (lane == k) pick = index;
  }
  return pick;
}

// norm_std / unbiased standard deviation of the logits; 1 when there is no normalisation, or
// nothing to normalise. Two passes in f64: logits of any f32 scale keep their digits and cannot
// overflow, and equal ones have a deviation of exactly 0.
SIMT_DEVICE double logit_scale(const Routing& r, const Logits& logits) {
  if (r.norm_std == 0.0f || r.e < 2) return 1.0;
  double sum = 0.0, squares = 0.0;
#pragma unroll
  for (int i = 0; i < kLogitsPerLane; i++) sum += static_cast<double>(logits.v[i]);
  const double mean = warp_sum(sum) / static_cast<double>(r.e);
#pragma unroll
  for (int i = 0; i < kLogitsPerLane; i++) {
    const double deviation = static_cast<int>(threadIdx.x) % 32 + 32 * i < r.e
                                 ? static_cast<double>(logits.v[i]) - mean
                                 : 0.0;
    squares = fma(deviation, deviation, squares);
  }
  squares = warp_sum(squares);
  return squares == 0.0
             ? 1.0
             : static_cast<double>(r.norm_std) / sqrt(squares / static_cast<double>(r.e - 1));
}

// Lane k gets the weight of its pick, the others 0. The softmax over all E, divided by the sum of
// the picks, is the softmax over the picks. A NaN among the logits makes the weights NaN, as a
// softmax over all E does.
SIMT_DEVICE float weigh_pick(const Routing& r, const Logits& logits, int64_t t, int pick) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const double scale = logit_scale(r, logits);
  bool nan = false;
#pragma unroll
  for (int i = 0; i < kLogitsPerLane; i++) nan |= logits.v[i] != logits.v[i];
  nan = __any_sync(simt::kFullMask, nan) != 0;
  const float logit = lane < r.k ? r.logits[t * r.e + pick] : 0.0f;
  const double below =
      (static_cast<double>(logit) - static_cast<double>(__shfl_sync(simt::kFullMask, logit, 0))) *
      scale;
  const bool zero_expert = pick == r.e - 1, dropped = lane >= r.k || (zero_expert && !r.mixtral);
  const float weight = dropped ? 0.0f : expf(static_cast<float>(below));
  const float total = warp_sum(weight);
  const int others = __popc(__ballot_sync(simt::kFullMask, !dropped));
  if (lane >= r.k) return 0.0f;
  if (nan) return NAN;
  if (total == 0.0f) return zero_expert || others == 0 ? 0.0f : 1.0f / static_cast<float>(others);
  return weight / total;
}

// The coefficients of a token's zero-computation picks: {cx, c_1 .. c_C}.
SIMT_DEVICE void collapse_picks(const Routing& r, int64_t t, int pick, float weight) {
  const int lane = static_cast<int>(threadIdx.x) % 32, constant = pick - r.n;
  float* coefficients = r.coefficients + t * (r.c + 1);
  float x = 0.0f;  // this pick's part of cx
  for (int i = lane; i <= r.c; i += 32) coefficients[i] = 0.0f;
  __syncwarp();
  if (lane < r.k && constant == r.c) x = weight;
  if (lane < r.k && constant >= 0 && constant < r.c) {
    const float* scores = r.scores + t * 2 * r.c + 2 * constant;
    const float up =
        static_cast<float>((static_cast<double>(scores[1]) - static_cast<double>(scores[0])) *
                           static_cast<double>(r.input_scale));
    x = weight * (1.0f / (1.0f + expf(up)));  // e^up may be infinity, which is right
    coefficients[1 + constant] = weight * (1.0f / (1.0f + expf(-up)));
  }
  x = warp_sum(x);
  if (lane == 0) coefficients[0] = x * r.input_scale;
}

// By one warp.
SIMT_DEVICE void gate_token(const Routing& r, int64_t t) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Logits logits;
  logits.load(r, t);
  const int pick = pick_experts(r, logits);
  const float weight = weigh_pick(r, logits, t, pick);
  if (lane < r.k) {
    r.indices[t * r.k + lane] = pick;
    r.weights[t * r.k + lane] = weight;
  }
  collapse_picks(r, t, pick, weight);
}

// Shared memory of the sort, in ints: all[N], before[N], then [warps][N].
SIMT_HOST_DEVICE size_t sort_bytes(int n, int threads) {
  return (static_cast<size_t>(n) * static_cast<size_t>(2 + threads / 32) + 1) * sizeof(int);
}

// all[n] = picks of expert n, before[n] = those of them before `first`. The order of atomic
// additions does not show in counts.
SIMT_DEVICE void count_picks(const Routing& r, int first, int* all, int* before) {
  const int picks = r.tokens * r.k;
  for (int i = threadIdx.x; i < picks; i += blockDim.x) {
    const int expert = r.indices[i];
    if (expert >= r.n) continue;
    atomicAdd(&all[expert], 1);
    if (i < first) atomicAdd(&before[expert], 1);
  }
}

// By the first warp: all[n] becomes the first row of expert n, which is told to everybody if asked.
SIMT_DEVICE void start_rows(const Routing& r, int* all, bool tell) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int start = 0;
  for (int base = 0; base < r.n; base += 32) {
    const int count = base + lane < r.n ? all[base + lane] : 0;
    int sum = count;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int lower = __shfl_up_sync(simt::kFullMask, sum, distance);
      if (lane >= distance) sum += lower;
    }
    if (base + lane < r.n) {
      all[base + lane] = start + sum - count;
      if (tell) r.offsets[base + lane] = start + sum - count;
    }
    start += __shfl_sync(simt::kFullMask, sum, 31);
  }
  if (lane == 0 && tell) r.offsets[r.n] = start;
}

// Places the picks [first, first + blockDim.x): thread i has pick first + i.
SIMT_DEVICE void sort_picks(const Routing& r, int first) {
  auto* all = simt::smem<int>();
  // next[w][n]: the row of warp w's first pick of expert n
  int *before = all + r.n, *next = before + r.n;
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int i = threadIdx.x; i < (2 + warps) * r.n; i += blockDim.x) all[i] = 0;
  __syncthreads();
  count_picks(r, first, all, before);
  const int pick = first + static_cast<int>(threadIdx.x);
  const bool there = pick < r.tokens * r.k;
  const int expert = there ? r.indices[pick] : r.n;
  const unsigned same = __match_any_sync(simt::kFullMask, expert);
  const int rank = __popc(same & ((1u << (threadIdx.x % 32)) - 1));
  if (expert < r.n && rank == 0) next[warp * r.n + expert] = __popc(same);
  __syncthreads();
  if (warp == 0) start_rows(r, all, first == 0);
  __syncthreads();
  for (int i = threadIdx.x; i < r.n; i += blockDim.x) {
    int row = all[i] + before[i];
    for (int w = 0; w < warps; w++) {
      const int count = next[w * r.n + i];
      next[w * r.n + i] = row;
      row += count;
    }
  }
  __syncthreads();
  if (!there) return;
  const int row = expert < r.n ? next[warp * r.n + expert] + rank : -1;
  r.rows[pick] = row;
  if (row >= 0) r.order[row] = pick;
}

inline Routing routing_of(const RouteTopKArgs& args) {
  Routing r = {};
  r.logits = args.logits->f32();
  r.scores = args.constant_scores->f32();
  r.indices = args.expert_indices->i32();
  r.offsets = args.expert_offsets->i32();
  r.order = args.token_order->i32();
  r.rows = args.expert_rows->i32();
  r.weights = args.expert_weights->f32();
  r.coefficients = args.coefficients->f32();
  r.tokens = static_cast<int>(args.logits->shape[0]);
  r.e = static_cast<int>(args.logits->shape[1]);
  r.c = static_cast<int>(args.constant_scores->shape[1]) / 2;
  r.n = r.e - r.c - 2;
  r.k = static_cast<int>(args.expert_indices->shape[1]);
  r.norm_std = args.norm_std;
  r.input_scale = args.input_scale;
  r.mixtral = args.mixtral;
  return r;
}

// The second kernel of many tokens, which both ops launch (route_top_k.cu).
void sort_tokens(const Routing& r, CudaQueue& queue);

}  // namespace moepp::cuda
