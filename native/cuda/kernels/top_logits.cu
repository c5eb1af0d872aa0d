// The whole chip reads a row. Each block takes kChunk logits of it, whatever the row's length, so
// that no result depends on the number of rows or of blocks. It leaves the largest of each group of
// 32, and the sum of the exponentials relative to its own largest. The block of a row that ends
// last merges them. At least k logits reach the k-th largest of the groups' largest. So it reads
// those groups alone again, some k of them, collects only few more than k logits, and sorts them.
//
// 65,536 logits are 32 blocks, of 8 loads a thread that are all on their way at once. The last one
// reads 8 KB of largest keys, some 12 times, and then 256 lines of 128 bytes.
// SASS * select_rows: LDG MUFU SHFL !LDL !STL registers<=80 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/last_block.cuh"
#include "cuda/reduce.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kGroup = 32;
constexpr int kOwn = 8;                              // groups of a warp, logits of a thread
constexpr int kChunk = kWarps * kOwn * kGroup;       // logits of a block
constexpr int kMostPicked = 512, kMostFound = 1024;  // a power of 2

// A block's sum over its chunk.
struct ChunkSum {
  double sum;  // of exp(logit - largest)
  uint32_t largest;
};

struct Rows {
  const float* logits;
  float* top_logits;     // or null
  int32_t* top_indices;  // or null
  float* exp_sum;        // or null
  int v, k;              // k is 0 when neither values nor indices are wanted
  int groups, chunks;    // of a row
  int first;             // row of the launch
  ChunkSum* sums;        // [rows of the launch, chunks]
  uint32_t* largest;     // [rows of the launch, groups]: keys
  unsigned* finished;    // [rows of the launch]: blocks
};

struct Smem {
  uint64_t found[kMostFound];
  double sums[kWarps];
  uint32_t largest[kWarps];
  int picked[kMostPicked];  // groups
  int counts[2][kWarps];
  int picked_count, found_count, told;
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

// The largest key of the warp.
SIMT_DEVICE uint32_t largest_key(uint32_t key) {
  const int signed_key = static_cast<int>(key ^ 0x80000000u);
  return static_cast<uint32_t>(simt::reduce_max(simt::kFullMask, signed_key)) ^ 0x80000000u;
}

// A block's chunk: its groups' largest keys, and its sum, to memory.
SIMT_DEVICE void read_chunk(const Rows& rows, Smem& s) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
            group = (static_cast<int>(blockIdx.x) * kWarps + warp) * kOwn;
  const float* row = rows.logits + static_cast<int64_t>(rows.first + blockIdx.y) * rows.v;
  float x[kOwn];
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    const int64_t i = static_cast<int64_t>(group + j) * kGroup + lane;
    x[j] = i < rows.v ? row[i] : -INFINITY;  // adds nothing to a sum
  }
  uint32_t own = 0, of_warp = 0;
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    const int64_t i = static_cast<int64_t>(group + j) * kGroup + lane;
    const uint32_t of_group = largest_key(i < rows.v ? key_of(x[j]) : 0);
    if (lane == j) own = of_group;
    of_warp = of_group > of_warp ? of_group : of_warp;
  }
  if (lane < kOwn && group + lane < rows.groups)
    rows.largest[static_cast<int64_t>(blockIdx.y) * rows.groups + group + lane] = own;
  if (rows.exp_sum == nullptr) return;

  if (lane == 0) s.largest[warp] = of_warp;
  __syncthreads();
  const uint32_t of_block = largest_key(s.largest[lane % kWarps]);
  const float largest = logit_of(of_block);
  float total = 0.0f, lost = 0.0f;  // compensated: as exact as one addition
#pragma unroll
  for (int j = 0; j < kOwn; j++) {
    const float term = expf(x[j] - largest) - lost, next = total + term;
    lost = (next - total) - term;
    total = next;
  }
  const double sum = warp_sum(static_cast<double>(total) - static_cast<double>(lost));
  if (lane == 0) s.sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  ChunkSum chunk = {0.0, of_block};
  for (int i = 0; i < kWarps; i++) chunk.sum += s.sums[i];
  rows.sums[static_cast<int64_t>(blockIdx.y) * rows.chunks + blockIdx.x] = chunk;
}

// By one warp: the row's sum of exponentials from those of its chunks.
SIMT_DEVICE void merge_sums(const Rows& rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const ChunkSum* chunks = rows.sums + static_cast<int64_t>(blockIdx.y) * rows.chunks;
  uint32_t largest = 0;
  for (int i = lane; i < rows.chunks; i += 32)
    largest = chunks[i].largest > largest ? chunks[i].largest : largest;
  const float of_row = logit_of(largest_key(largest));
  double sum = 0.0;
  for (int i = lane; i < rows.chunks; i += 32) {
    const float of_chunk = logit_of(chunks[i].largest);
    // -infinity everywhere gives NaN, in a chunk of several nothing
    if (of_chunk == -INFINITY && of_row != -INFINITY) continue;
    sum += chunks[i].sum * exp(static_cast<double>(of_chunk) - static_cast<double>(of_row));
  }
  sum = warp_sum(sum);
  if (lane == 0) rows.exp_sum[rows.first + blockIdx.y] = static_cast<float>(sum);
}

// The largest bound that `wanted` keys or more reach, bit by bit; or a lower one that no more than
// `enough` reach. 0 where there are fewer. count(bound): how many of this thread's keys reach it.
template <class Key, class Count>
SIMT_DEVICE Key find_bound(Smem& s, int wanted, int enough, const Count& count) {
  Key bound = 0;
  for (int bit = 8 * static_cast<int>(sizeof(Key)) - 1; bit >= 0; bit--) {
    const Key candidate = bound | Key{1} << bit;
    const int of_warp = simt::reduce_add(simt::kFullMask, count(candidate));
    int* counts = s.counts[bit % 2];  // the other ones may still be read
    if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = of_warp;
    __syncthreads();
    int reached = 0;
#pragma unroll
    for (int i = 0; i < kWarps; i++) reached += counts[i];
    if (reached < wanted) continue;
    bound = candidate;
    if (reached <= enough) break;
  }
  return bound;
}

// body(logit, index) for this thread's logits of a row.
template <class Body>
SIMT_DEVICE void for_own_logits(const float* row, int v, const Body& body) {
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < v; i += kThreads) body(row[i], i);
}

SIMT_DEVICE void add_found(Smem& s, float logit, int index) {
  const int at = atomicAdd(&s.found_count, 1);
  if (at < kMostFound) s.found[at] = place_of(logit, index);
}

// The logits that reach the k-th largest of the groups' largest. Returns how many: k, or a few
// more; more than kMostFound where not all are in s.found.
SIMT_DEVICE int find_by_groups(Smem& s, const Rows& rows, const float* row) {
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32;
  const uint32_t* largest = rows.largest + static_cast<int64_t>(blockIdx.y) * rows.groups;
  if (tid == 0) s.picked_count = s.found_count = 0;
  const uint32_t bound =
      find_bound<uint32_t>(s, rows.k, rows.k + rows.k / 2, [&](uint32_t candidate) {
        int count = 0;
#pragma unroll 8
        for (int i = tid; i < rows.groups; i += kThreads) count += largest[i] >= candidate ? 1 : 0;
        return count;
      });
  for (int i = tid; i < rows.groups; i += kThreads) {
    if (largest[i] < bound) continue;
    const int at = atomicAdd(&s.picked_count, 1);
    if (at < kMostPicked) s.picked[at] = i;
  }
  __syncthreads();
  const int picked = s.picked_count;
  if (picked > kMostPicked) return kMostFound + 1;
  constexpr int kAtOnce = 16;  // loads of a thread
  for (int base = tid / 32; base < picked; base += kWarps * kAtOnce) {
    float x[kAtOnce];
    int index[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; j++) {
      const int n = base + j * kWarps;
      index[j] = n < picked ? s.picked[n] * kGroup + lane : rows.v;
      x[j] = index[j] < rows.v ? row[index[j]] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; j++)
      if (index[j] < rows.v && key_of(x[j]) >= bound) add_found(s, x[j], index[j]);
  }
  __syncthreads();
  return s.found_count;
}

// The same by the places of all logits, which differ. For rows of so many ties, or so short or
// uneven, that too many are found. Reads the row up to 64 times.
SIMT_DEVICE int find_by_places(Smem& s, const Rows& rows, const float* row) {
  const uint64_t bound = find_bound<uint64_t>(s, rows.k, kMostFound, [&](uint64_t candidate) {
    int count = 0;
    for_own_logits(row, rows.v,
                   [&](float x, int i) { count += place_of(x, i) >= candidate ? 1 : 0; });
    return count;
  });
  if (threadIdx.x == 0) s.found_count = 0;
  __syncthreads();
  for_own_logits(row, rows.v, [&](float x, int i) {
    if (place_of(x, i) >= bound) add_found(s, x, i);
  });
  __syncthreads();
  return s.found_count;
}

// The first `count` of s.found in descending order: a bitonic sort of the next power of 2.
SIMT_DEVICE void sort_found(Smem& s, int count) {
  const int tid = static_cast<int>(threadIdx.x);
  int size = 1;
  while (size < count) size *= 2;
  for (int i = count + tid; i < size; i += kThreads) s.found[i] = 0;
  __syncthreads();
  for (int length = 2; length <= size; length *= 2) {
    for (int stride = length / 2; stride > 0; stride /= 2) {
      for (int pair = tid; pair < size / 2; pair += kThreads) {
        const int a = 2 * pair - (pair & (stride - 1)), b = a + stride;
        const uint64_t x = s.found[a], y = s.found[b];
        if (((a & length) == 0) == (x < y)) s.found[a] = y, s.found[b] = x;
      }
      __syncthreads();
    }
  }
}

__global__ void __launch_bounds__(kThreads) select_rows(Rows rows) {
  await_inputs();
  auto& s = *simt::smem<Smem>();
  read_chunk(rows, s);
  if (!is_last_block<kThreads>(rows.finished + blockIdx.y, gridDim.x, &s.told)) return;
  if (rows.exp_sum != nullptr && threadIdx.x < 32) merge_sums(rows);
  if (rows.k == 0) return;
  const int64_t r = rows.first + blockIdx.y;
  const float* row = rows.logits + r * rows.v;
  int count = find_by_groups(s, rows, row);
  if (count > kMostFound) count = find_by_places(s, rows, row);
  sort_found(s, count);
  const int place = static_cast<int>(threadIdx.x);
  if (place >= rows.k) return;
  const int index = static_cast<int>(~static_cast<uint32_t>(s.found[place]));
  if (rows.top_logits != nullptr) rows.top_logits[r * rows.k + place] = row[index];
  if (rows.top_indices != nullptr) rows.top_indices[r * rows.k + place] = index;
}

}  // namespace

void top_logits(const TopLogitsArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Tensor* top = args.top_logits != nullptr ? args.top_logits : args.top_indices;
  Rows rows = {};
  rows.logits = args.logits->f32();
  rows.top_logits = args.top_logits != nullptr ? args.top_logits->f32() : nullptr;
  rows.top_indices = args.top_indices != nullptr ? args.top_indices->i32() : nullptr;
  rows.exp_sum = args.exp_sum != nullptr ? args.exp_sum->f32() : nullptr;
  const int64_t count = args.logits->shape[0], v = args.logits->shape[1];
  rows.v = static_cast<int>(v);
  rows.k = top != nullptr ? static_cast<int>(top->shape[1]) : 0;
  rows.groups = static_cast<int>((v + kGroup - 1) / kGroup);
  rows.chunks = static_cast<int>((v + kChunk - 1) / kChunk);
  const int64_t row_bytes = rows.chunks * int64_t{sizeof(ChunkSum)} + rows.groups * int64_t{4};
  const int64_t at_once =
      min(min(count, int64_t{CudaQueue::kCounters}), stream.workspace_bytes() / row_bytes);
  if (count > 0 && at_once == 0) return stream.check(simt::kOutOfResources);  // V of 10^8
  rows.finished = stream.counters();
  rows.sums = static_cast<ChunkSum*>(stream.workspace(at_once * row_bytes));
  rows.largest = reinterpret_cast<uint32_t*>(rows.sums + at_once * rows.chunks);
  for (int64_t first = 0; first < count; first += at_once) {
    rows.first = static_cast<int>(first);
    const dim3 grid(static_cast<unsigned>(rows.chunks),
                    static_cast<unsigned>(min(at_once, count - first)));
    stream.launch(select_rows, {grid, dim3(kThreads), sizeof(Smem)}, rows);
  }
}

}  // namespace moepp::cuda
