// One block per row. It reads the row twice. Logits become unsigned keys in the order of the
// contract. In the first pass each thread finds the largest of its keys. At least k logits reach
// the k-th largest of these. So the second pass collects only few more than k, and sorts them. It
// sums the exponentials too.
// SASS * select_row: LDG MUFU SHFL !LDL !STL registers<=64 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kMostFound = 1024;  // a power of 2

struct Rows {
  const float* logits;
  float* top_logits;     // or null
  int32_t* top_indices;  // or null
  float* exp_sum;        // or null
  int v, k;              // k is 0 when neither values nor indices are wanted
};

struct Smem {
  uint64_t found[kMostFound];
  double sums[kWarps];
  uint32_t maxima[kThreads];
  uint32_t largest, bound;
  int count;
};

// Larger logits have larger keys, NaN the largest; equal ones equal keys, so -0 that of 0. No logit
// has the key 0.
SIMT_DEVICE uint32_t key_of(float logit) {
  if (logit != logit) return 0xffffffffu;
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
SIMT_DEVICE float logit_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

// Different for all logits of a row, and in the order wanted: of equal logits the first has the
// largest.
SIMT_DEVICE uint64_t place_of(float logit, int index) {
  return static_cast<uint64_t>(key_of(logit)) << 32 | ~static_cast<uint32_t>(index);
}

// body(logit, index) for the logits of this thread; N at a time.
template <int N, class Body>
SIMT_DEVICE void for_own_logits(const float* row, int v, const Body& body) {
  for (int i = static_cast<int>(threadIdx.x) * N; i < v; i += kThreads * N) {
    float x[N];
    load_elements(row + i, x);
#pragma unroll
    for (int j = 0; j < N; j++) body(x[j], i + j);
  }
}

// By the first warp: the largest key, and the k-th largest of the threads' maxima, bit by bit.
SIMT_DEVICE void bound_keys(Smem& s, int k) {
  uint32_t keys[kThreads / 32], largest = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; i++) {
    keys[i] = s.maxima[i * 32 + static_cast<int>(threadIdx.x)];
    largest = keys[i] > largest ? keys[i] : largest;
  }
  const int signed_largest =
      simt::reduce_max(simt::kFullMask, static_cast<int>(largest ^ 0x80000000u));
  uint32_t bound = 0;
  for (int bit = 31; k > 0 && bit >= 0; bit--) {
    const uint32_t candidate = bound | 1u << bit;
    int count = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; i++) count += keys[i] >= candidate ? 1 : 0;
    const int reached = simt::reduce_add(simt::kFullMask, count);
    if (reached >= k) bound = candidate;
  }
  if (threadIdx.x == 0) {
    s.largest = static_cast<uint32_t>(signed_largest) ^ 0x80000000u;
    s.bound = bound;
  }
}

// Keeps exactly the k first: for rows with so many ties, or so uneven, that the bound is too low.
// Reads the row 64 times.
template <int N>
SIMT_DEVICE void find_exactly(Smem& s, const float* row, int v, int k) {
  uint64_t bound = 0;
  for (int bit = 63; bit >= 0; bit--) {
    const uint64_t candidate = bound | uint64_t{1} << bit;
    __syncthreads();  // everyone has read the count
    if (threadIdx.x == 0) s.count = 0;
    int count = 0;
    for_own_logits<N>(row, v,
                      [&](float x, int i) { count += place_of(x, i) >= candidate ? 1 : 0; });
    const int of_warp = simt::reduce_add(simt::kFullMask, count);
    __syncthreads();
    if (threadIdx.x % 32 == 0) atomicAdd(&s.count, of_warp);
    __syncthreads();
    if (s.count >= k) bound = candidate;
  }
  __syncthreads();
  if (threadIdx.x == 0) s.count = 0;
  __syncthreads();
  for_own_logits<N>(row, v, [&](float x, int i) {
    if (place_of(x, i) >= bound) s.found[atomicAdd(&s.count, 1)] = place_of(x, i);
  });
  __syncthreads();
}

// The first `count` of s.found in descending order: a bitonic sort of the next power of 2.
SIMT_DEVICE void sort_found(Smem& s, int count) {
  const int tid = static_cast<int>(threadIdx.x);
  int size = 1;
  while (size < count) size *= 2;
  if (tid >= count && tid < size) s.found[tid] = 0;
  __syncthreads();
  for (int length = 2; length <= size; length *= 2) {
    for (int stride = length / 2; stride > 0; stride /= 2) {
      const int a = 2 * tid - (tid & (stride - 1)), b = a + stride;
      if (tid < size / 2) {
        const uint64_t x = s.found[a], y = s.found[b];
        if (((a & length) == 0) == (x < y)) s.found[a] = y, s.found[b] = x;
      }
      __syncthreads();
    }
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads) select_row(Rows rows) {
  await_inputs();
  auto& s = *simt::smem<Smem>();
  const int64_t r = blockIdx.x;
  const float* row = rows.logits + r * rows.v;
  const int tid = static_cast<int>(threadIdx.x);
  uint32_t highest = 0;
  for_own_logits<N>(row, rows.v, [&](float x, int) {
    const uint32_t key = key_of(x);
    highest = key > highest ? key : highest;
  });
  s.maxima[tid] = highest;
  if (tid == 0) s.count = 0;
  __syncthreads();
  if (tid < 32) bound_keys(s, rows.k);
  __syncthreads();

  const float largest = logit_of(s.largest);
  const uint32_t bound = s.bound;
  float total = 0.0f, lost = 0.0f;  // compensated: as exact as one addition
  for_own_logits<N>(row, rows.v, [&](float x, int i) {
    if (rows.k > 0 && key_of(x) >= bound) {
      const int at = atomicAdd(&s.count, 1);
      if (at < kMostFound) s.found[at] = place_of(x, i);
    }
    if (rows.exp_sum != nullptr) {
      const float term = expf(x - largest) - lost, next = total + term;
      lost = (next - total) - term;
      total = next;
    }
  });
  if (rows.exp_sum != nullptr) {
    const double of_warp = warp_sum(static_cast<double>(total) - static_cast<double>(lost));
    if (tid % 32 == 0) s.sums[tid / 32] = of_warp;
  }
  __syncthreads();
  if (rows.exp_sum != nullptr && tid < 32) {
    const double sum = warp_sum(s.sums[tid]);
    if (tid == 0) rows.exp_sum[r] = static_cast<float>(sum);
  }
  if (rows.k == 0) return;
  int count = s.count;
  if (count > kMostFound) {
    find_exactly<N>(s, row, rows.v, rows.k);
    count = rows.k;
  }
  sort_found(s, count);
  if (tid >= rows.k) return;
  const int index = static_cast<int>(~static_cast<uint32_t>(s.found[tid]));
  if (rows.top_logits != nullptr) rows.top_logits[r * rows.k + tid] = row[index];
  if (rows.top_indices != nullptr) rows.top_indices[r * rows.k + tid] = index;
}

}  // namespace

void top_logits(const TopLogitsArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Tensor* top = args.top_logits != nullptr ? args.top_logits : args.top_indices;
  const Rows rows = {args.logits->f32(),
                     args.top_logits != nullptr ? args.top_logits->f32() : nullptr,
                     args.top_indices != nullptr ? args.top_indices->i32() : nullptr,
                     args.exp_sum != nullptr ? args.exp_sum->f32() : nullptr,
                     static_cast<int>(args.logits->shape[1]),
                     top != nullptr ? static_cast<int>(top->shape[1]) : 0};
  const simt::Launch how = {dim3(static_cast<unsigned>(args.logits->shape[0])), dim3(kThreads),
                            sizeof(Smem)};
  stream.launch(rows.v % 4 == 0 ? select_row<4> : select_row<1>, how, rows);
}

}  // namespace moepp::cuda
