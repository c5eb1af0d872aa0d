// The loops of ops/route_top_k.h, shared by route_top_k and norm_route_top_k. A warp gates a token,
// whose logits its lanes hold. Then comes a counting sort of the FFN picks. The sort is stable
// in (t, k), and each block places its own picks. A block counts for itself how many picks come
// before them. It reads all picks for that, 4 bytes each from L2. So blocks need not wait for one
// another, and nothing is left in memory between them.
#pragma once

#include "cuda/cuda_queue.h"
#include "cuda/reduce.cuh"
#include "ops.h"

namespace moepp::cuda {

struct Routing {
  const float *logits, *scores, *bias;
  int32_t *indices, *offsets, *order, *rows;
  float *weights, *coefficients;
  ExpertRuns experts;
  int tokens, e, c, n, k, groups, top_groups;
  float norm_std, input_scale, weight_scale;
  bool sigmoid, normalise, drop_zero, masked;
};

// The order of the logits is not that of the choices.
SIMT_DEVICE bool by_choice(const Routing& r) {
  return r.bias != nullptr || r.groups > 1;
}
// The weights are made of the scores, not of the logits of the picks alone.
SIMT_DEVICE bool by_score(const Routing& r) {
  return by_choice(r) || r.sigmoid || !r.normalise;
}

SIMT_DEVICE bool has_no_weight(const Routing& r, ExpertKind kind) {
  return (r.drop_zero && kind == ExpertKind::kZero) || (r.masked && kind != ExpertKind::kFfn);
}

// One token's logits, then its choices: lane l has those of the experts l, l + 32, ... L of them
// are enough for 32 L experts.
template <int L>
struct Logits {
  float v[L];
  unsigned open;  // bit i: there is such an expert, and no mask hides it

  SIMT_DEVICE void load(const Routing& r, const float* logits, int64_t row) {
    open = 0;
#pragma unroll
    for (int i = 0; i < L; i++) {
      const int expert = static_cast<int>(threadIdx.x) % 32 + 32 * i;
      v[i] = expert < r.e ? logits[row * r.e + expert] : 0.0f;
      open |= expert < r.e ? 1u << i : 0u;
    }
    if (!r.masked) return;
#pragma unroll
    for (int i = 0; i < L; i++) {
      const int expert = static_cast<int>(threadIdx.x) % 32 + 32 * i;
      if (r.experts.kind_of(expert) != ExpertKind::kFfn) open &= ~(1u << i);
    }
  }
  SIMT_DEVICE bool is_open(int i) const {
    return (open >> i & 1) != 0;
  }
};

// The K largest choices, the higher first, equal ones in ascending order of index; lane k gets the
// k-th. A NaN counts as minus infinity, so that indices are always K different experts.
template <int L>
SIMT_DEVICE int pick_experts(const Routing& r, const Logits<L>& choices) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned taken = 0;  // of this lane's experts
  int pick = 0;
  for (int k = 0; k < r.k; k++) {
    float best = -INFINITY;
    int index = r.e;
#pragma unroll
    for (int i = 0; i < L; i++) {
      const int expert = lane + 32 * i;
      const float value = choices.v[i] == choices.v[i] ? choices.v[i] : -INFINITY;
      const bool free = expert < r.e && (taken >> i & 1) == 0;
      if (free && (value > best || index == r.e)) best = value, index = expert;
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
template <int L>
SIMT_DEVICE double logit_scale(const Routing& r, const Logits<L>& logits) {
  if (r.norm_std == 0.0f || r.e < 2) return 1.0;
  double sum = 0.0, squares = 0.0;
#pragma unroll
  for (int i = 0; i < L; i++) sum += static_cast<double>(logits.v[i]);
  const double mean = warp_sum(sum) / static_cast<double>(r.e);
#pragma unroll
  for (int i = 0; i < L; i++) {
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

// Shared by all scores of a token.
struct Gate {
  double scale;
  float highest, total;  // of the softmax
  bool nan;              // among the logits that are not masked
};

SIMT_DEVICE float scaled(const Routing& r, const Gate& gate, float logit, float from) {
  if (r.norm_std == 0.0f) return logit - from;
  return static_cast<float>((static_cast<double>(logit) - static_cast<double>(from)) * gate.scale);
}

SIMT_DEVICE float score_of(const Routing& r, const Gate& gate, float logit) {
  if (r.sigmoid) return 1.0f / (1.0f + expf(-scaled(r, gate, logit, 0.0f)));
  return expf(scaled(r, gate, logit, gate.highest)) / gate.total;
}

template <int L>
SIMT_DEVICE Gate measure(const Routing& r, const Logits<L>& logits) {
  Gate gate = {logit_scale(r, logits), -INFINITY, 0.0f, false};
#pragma unroll
  for (int i = 0; i < L; i++) gate.nan |= logits.is_open(i) && logits.v[i] != logits.v[i];
  gate.nan = __any_sync(simt::kFullMask, gate.nan) != 0;
  if (!by_score(r) || r.sigmoid) return gate;
#pragma unroll
  for (int i = 0; i < L; i++) {
    if (logits.is_open(i) && logits.v[i] > gate.highest) gate.highest = logits.v[i];
  }
  gate.highest = warp_max(gate.highest);
#pragma unroll
  for (int i = 0; i < L; i++) {
    if (logits.is_open(i)) gate.total += expf(scaled(r, gate, logits.v[i], gate.highest));
  }
  gate.total = warp_sum(gate.total);
  return gate;
}

// The choices outside the best groups become 0. Lane g has the score of group g.
template <int L>
SIMT_DEVICE void keep_groups(const Routing& r, Logits<L>& choices) {
  const int lane = static_cast<int>(threadIdx.x) % 32, size = r.e / r.groups;
  float best = -INFINITY;
  for (int g = 0; g < r.groups; g++) {
    float first = -INFINITY, second = -INFINITY;
#pragma unroll
    for (int i = 0; i < L; i++) {
      const int expert = lane + 32 * i;
      if (expert < g * size || expert >= (g + 1) * size) continue;
      const float v = choices.v[i];
      if (v > first) {
        second = first, first = v;
      } else if (v > second) {
        second = v;
      }
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(simt::kFullMask, first, distance),
                  next = __shfl_xor_sync(simt::kFullMask, second, distance);
      second = fmaxf(fminf(first, other), fmaxf(second, next));
      first = fmaxf(first, other);
    }
    const float sum = first + second;
    if (lane == g && sum == sum) best = sum;
  }
  int better = 0;
  for (int g = 0; g < r.groups; g++) {
    const float other = __shfl_sync(simt::kFullMask, best, g);
    better += other > best || (other == best && g < lane) ? 1 : 0;
  }
  const unsigned kept =
      __ballot_sync(simt::kFullMask, lane < r.groups && better < r.top_groups ? 1 : 0);
#pragma unroll
  for (int i = 0; i < L; i++) {
    const int group = (lane + 32 * i) / size;
    if (group < r.groups && (kept >> group & 1) == 0) choices.v[i] = 0.0f;
  }
}

// The logits become the choices, or what has their order.
template <int L>
SIMT_DEVICE void choose(const Routing& r, const Gate& gate, Logits<L>& logits) {
  const bool scored = by_choice(r);
  if (!scored && !r.masked) return;
#pragma unroll
  for (int i = 0; i < L; i++) {
    const int expert = static_cast<int>(threadIdx.x) % 32 + 32 * i;
    if (!scored) {
      if (!logits.is_open(i)) logits.v[i] = -INFINITY;
      continue;
    }
    logits.v[i] = logits.is_open(i) ? score_of(r, gate, logits.v[i]) : 0.0f;
    if (r.bias != nullptr && expert < r.e) logits.v[i] += r.bias[expert];
  }
  if (r.groups > 1) keep_groups(r, logits);
}

// Lane k gets the weight of its pick, the others 0. The softmax over all E, divided by the sum of
// the picks, is the softmax over the picks.
SIMT_DEVICE float weigh_pick(const Routing& r, const Gate& gate, const float* logits, int64_t row,
                             int pick, ExpertKind kind) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float logit = lane < r.k ? logits[row * r.e + pick] : 0.0f;
  const float first = __shfl_sync(simt::kFullMask, logit, 0);
  const bool dropped = lane >= r.k || has_no_weight(r, kind);
  float weight = 0.0f;
  if (!dropped)
    weight = by_score(r) ? score_of(r, gate, logit) : expf(scaled(r, gate, logit, first));
  if (r.normalise) {
    const float total = warp_sum(weight) + (r.sigmoid ? 1e-20f : 0.0f);
    const int others = __popc(__ballot_sync(simt::kFullMask, dropped ? 0 : 1));
    if (total != 0.0f) {
      weight = weight / total;
    } else if (r.drop_zero && !dropped) {
      weight = 1.0f / static_cast<float>(others);
    }
  }
  if (lane >= r.k) return 0.0f;
  return gate.nan ? NAN : weight * r.weight_scale;
}

// The coefficients of a token's zero-computation picks: {cx, c_1 .. c_C}.
SIMT_DEVICE void collapse_picks(const Routing& r, int64_t t, const float* row,
                                ExpertRuns::Place place, float weight) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* coefficients = r.coefficients + t * (r.c + 1);
  float x = 0.0f;  // this pick's part of cx
  for (int i = lane; i <= r.c; i += 32) coefficients[i] = 0.0f;
  __syncwarp();
  if (lane < r.k && place.kind == ExpertKind::kCopy) x = weight;
  if (lane < r.k && place.kind == ExpertKind::kConstant) {
    const float* scores = row + 2 * place.rank;
    const float up =
        static_cast<float>((static_cast<double>(scores[1]) - static_cast<double>(scores[0])) *
                           static_cast<double>(r.input_scale));
    x = weight * (1.0f / (1.0f + expf(up)));  // e^up may be infinity, which is right
    coefficients[1 + place.rank] = weight * (1.0f / (1.0f + expf(-up)));
  }
  x = warp_sum(x);
  if (lane == 0) coefficients[0] = x * r.input_scale;
}

constexpr int kNoRow = 0xffff;  // of a pick without an FFN expert
SIMT_DEVICE int ffn_number(const ExpertRuns::Place& place) {
  return place.kind == ExpertKind::kFfn ? place.rank : kNoRow;
}

// By one warp; row `row` of `logits` and of `scores` is the token's. Returns ffn_number of the
// lane's pick.
template <int L>
SIMT_DEVICE int gate_token(const Routing& r, int64_t t, const float* logits, const float* scores,
                           int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Logits<L> choices;
  choices.load(r, logits, row);
  const Gate gate = measure(r, choices);
  choose(r, gate, choices);
  const int pick = pick_experts(r, choices);
  const ExpertRuns::Place place = r.experts.place_of(pick);
  const float weight = weigh_pick(r, gate, logits, row, pick, place.kind);
  if (lane < r.k) {
    r.indices[t * r.k + lane] = pick;
    r.weights[t * r.k + lane] = weight;
  }
  collapse_picks(r, t, scores + row * 2 * r.c, place, weight);
  return ffn_number(place);
}
template <int L>
SIMT_DEVICE int gate_token(const Routing& r, int64_t t) {
  return gate_token<L>(r, t, r.logits, r.scores, t);
}

// The sort of at most 32 picks, by one warp: lane i has ffn_number of pick i.
SIMT_DEVICE void sort_few(const Routing& r, int number) {
  const int lane = static_cast<int>(threadIdx.x) % 32, picks = r.tokens * r.k;
  int row = 0;
  for (int i = 0; i < picks; i++) {
    const int other = __shfl_sync(simt::kFullMask, number, i);
    row += other < number || (other == number && i < lane) ? 1 : 0;
  }
  if (lane < picks) {
    r.rows[lane] = number != kNoRow ? row : -1;
    if (number != kNoRow) r.order[row] = lane;
  }
  for (int base = 0; base <= r.n; base += 32) {
    int before = 0;  // picks of experts before base + lane
    for (int i = 0; i < picks; i++)
      before += __shfl_sync(simt::kFullMask, number, i) < base + lane ? 1 : 0;
    if (base + lane <= r.n) r.offsets[base + lane] = before;
  }
}

// Shared memory of the sort.
struct SortMemory {
  int *all, *before;  // [N]
  uint16_t* next;     // [warps][N]
  uint16_t* ranks;    // [E]: an FFN expert's n, or kNoRow
};

SIMT_HOST_DEVICE size_t sort_bytes(const Routing& r, int threads) {
  const auto n = static_cast<size_t>(r.n);
  return sizeof(int) * (2 * n + 1) +
         sizeof(uint16_t) * (n * static_cast<size_t>(threads / 32) + static_cast<size_t>(r.e));
}

// Cleared, with the experts' ranks. The block must synchronise before it is read.
SIMT_DEVICE SortMemory clear_sort(const Routing& r) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  SortMemory s = {};
  s.all = simt::smem<int>();
  s.before = s.all + r.n;
  s.next = reinterpret_cast<uint16_t*>(s.before + r.n);
  s.ranks = s.next + warps * r.n;
  for (int i = threadIdx.x; i < 2 * r.n; i += blockDim.x) s.all[i] = 0;
  for (int i = threadIdx.x; i < warps * r.n; i += blockDim.x) s.next[i] = 0;
  for (int i = threadIdx.x; i < r.e; i += blockDim.x) {
    s.ranks[i] = static_cast<uint16_t>(ffn_number(r.experts.place_of(i)));
  }
  return s;
}

// all[n] = picks of FFN expert n, before[n] = those of them before `first`. The order of atomic
// additions does not show in counts.
SIMT_DEVICE void count_picks(const Routing& r, int first, const SortMemory& s) {
  const int picks = r.tokens * r.k;
  for (int i = threadIdx.x; i < picks; i += blockDim.x) {
    const int n = s.ranks[r.indices[i]];
    if (n == kNoRow) continue;
    atomicAdd(&s.all[n], 1);
    if (i < first) atomicAdd(&s.before[n], 1);
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
  const int warps = static_cast<int>(blockDim.x) / 32, warp = static_cast<int>(threadIdx.x) / 32;
  const SortMemory s = clear_sort(r);
  __syncthreads();
  count_picks(r, first, s);
  const int pick = first + static_cast<int>(threadIdx.x);
  const bool there = pick < r.tokens * r.k;
  const int n = there ? s.ranks[r.indices[pick]] : kNoRow;
  const unsigned same = __match_any_sync(simt::kFullMask, n);
  const int rank = __popc(same & ((1u << (threadIdx.x % 32)) - 1));
  if (n != kNoRow && rank == 0) s.next[warp * r.n + n] = static_cast<uint16_t>(__popc(same));
  __syncthreads();
  if (warp == 0) start_rows(r, s.all, first == 0);
  __syncthreads();
  // next[w][n]: how many of the block's picks of expert n are in the warps before w
  for (int i = threadIdx.x; i < r.n; i += blockDim.x) {
    int row = 0;
    for (int w = 0; w < warps; w++) {
      const int count = s.next[w * r.n + i];
      s.next[w * r.n + i] = static_cast<uint16_t>(row);
      row += count;
    }
  }
  __syncthreads();
  if (!there) return;
  const int row = n != kNoRow ? s.all[n] + s.before[n] + s.next[warp * r.n + n] + rank : -1;
  r.rows[pick] = row;
  if (row >= 0) r.order[row] = pick;
}

// All picks, by one block with a thread for each.
SIMT_DEVICE void sort_all(const Routing& r) {
  const int picks = r.tokens * r.k;
  if (picks > 32) return sort_picks(r, 0);
  if (threadIdx.x >= 32) return;
  const bool there = static_cast<int>(threadIdx.x) < picks;
  sort_few(r, there ? ffn_number(r.experts.place_of(r.indices[threadIdx.x])) : kNoRow);
}

inline Routing routing_of(const RouteTopKArgs& args) {
  Routing r = {};
  r.logits = args.logits->f32();
  r.scores = args.constant_scores != nullptr ? args.constant_scores->f32() : nullptr;
  r.bias = args.selection_bias != nullptr ? args.selection_bias->f32() : nullptr;
  r.indices = args.expert_indices->i32();
  r.offsets = args.expert_offsets->i32();
  r.order = args.token_order->i32();
  r.rows = args.expert_rows->i32();
  r.weights = args.expert_weights->f32();
  r.coefficients = args.coefficients->f32();
  r.experts = args.experts;
  r.tokens = static_cast<int>(args.logits->shape[0]);
  r.e = args.experts.experts;
  r.c = args.experts.count(ExpertKind::kConstant);
  r.n = args.experts.count(ExpertKind::kFfn);
  r.k = static_cast<int>(args.expert_indices->shape[1]);
  r.groups = args.groups;
  r.top_groups = args.top_groups;
  r.norm_std = args.norm_std;
  r.input_scale = args.input_scale;
  r.weight_scale = args.weight_scale;
  r.sigmoid = args.scores == Scores::kSigmoid;
  r.normalise = args.normalise;
  r.drop_zero = args.drop_zero;
  r.masked = args.masked;
  return r;
}

// The second kernel of many tokens, which both ops launch (route_top_k.cu).
void sort_tokens(const Routing& r, CudaQueue& queue);

}  // namespace moepp::cuda
