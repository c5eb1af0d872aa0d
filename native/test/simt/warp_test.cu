// Warp collectives, barriers and atomics.
#include "device_test.h"

namespace moepp::simt_test {

// One row of 32 results per question.
static __global__ void ask_warp(const int* in, int* out) {
  const int lane = threadIdx.x, x = in[lane];
  int row = 0;
  auto put = [&](int value) { out[32 * row++ + lane] = value; };
  put(__shfl_sync(simt::kFullMask, x, 5));
  put(__shfl_sync(simt::kFullMask, x, lane + 3, 8));
  put(__shfl_xor_sync(simt::kFullMask, x, 6));
  put(__shfl_up_sync(simt::kFullMask, x, 3));
  put(__shfl_down_sync(simt::kFullMask, x, 3, 16));
  put(static_cast<int>(__ballot_sync(simt::kFullMask, x > 0)));
  put(__any_sync(simt::kFullMask, x == in[31]) + 2 * __all_sync(simt::kFullMask, x < 100) +
      4 * __all_sync(simt::kFullMask, x > 0));
  put(static_cast<int>(__match_any_sync(simt::kFullMask, x)));
  int all = 5;
  put(static_cast<int>(__match_all_sync(simt::kFullMask, x, &all)) + all);
  put(simt::reduce_add(simt::kFullMask, x));
  put(simt::reduce_max(simt::kFullMask, x));
  put(__popc(__ballot_sync(simt::kFullMask, simt::elect_one())));
  put(static_cast<int>(simt::lane()));
}

static int expected_answer(int row, int lane, const Shared<int>& in) {
  unsigned positive = 0, equal = 0;
  int sum = 0, greatest = in[0];
  bool all_positive = true;
  for (int i = 0; i < 32; i++) {
    positive |= static_cast<unsigned>(in[i] > 0) << i;
    equal |= static_cast<unsigned>(in[i] == in[lane]) << i;
    sum += in[i];
    greatest = in[i] > greatest ? in[i] : greatest;
    all_positive = all_positive && in[i] > 0;
  }
  switch (row) {
    case 0:
      return in[5];
    case 1:
      return in[lane / 8 * 8 + (lane + 3) % 8];
    case 2:
      return in[lane ^ 6];
    case 3:
      return in[lane < 3 ? lane : lane - 3];
    case 4:
      return in[lane % 16 + 3 < 16 ? lane + 3 : lane];
    case 5:
      return static_cast<int>(positive);
    case 6:
      return 1 + 2 + (all_positive ? 4 : 0);
    case 7:
      return static_cast<int>(equal);
    case 8:
      return 0;
    case 9:
      return sum;
    case 10:
      return greatest;
    case 11:
      return 1;
    default:
      return lane;
  }
}

MOEPP_TEST(simt_warp_collectives) {
  for_each_schedule([] {
    Shared<int> in(32), out(13 * 32);
    for (size_t i = 0; i < 32; i++) in[i] = small_integer(i, 3);
    EXPECT_RUNS(ask_warp, {dim3(1), dim3(32)}, in.data(), out.data());
    for (int i = 0; i < 13 * 32; i++)
      EXPECT(out[static_cast<size_t>(i)] == expected_answer(i / 32, i % 32, in));
  });
}

// Lanes 0 to 9 and 10 to 31 go separate ways; then the upper half ends, and the rest goes on with
// the full mask.
static __global__ void part_ways(int* out) {
  const int lane = threadIdx.x;
  const unsigned low = 0x3ffu;
  if (lane < 10) {
    out[lane] = simt::reduce_add(low, 1);
  } else {
    out[lane] = simt::reduce_add(~low, 1);
  }
  if (lane >= 16) return;
  out[32 + lane] = __popc(__ballot_sync(simt::kFullMask, 1));
  out[32 + lane] += static_cast<int>(__shfl_sync(0xffffu, 100, 3));
}

MOEPP_TEST(simt_lanes_may_part_and_end) {
  for_each_schedule([] {
    Shared<int> out(64);
    EXPECT_RUNS(part_ways, {dim3(1), dim3(32)}, out.data());
    for (size_t i = 0; i < 32; i++) EXPECT(out[i] == (i < 10 ? 10 : 22));
    for (size_t i = 0; i < 16; i++) EXPECT(out[32 + i] == 116);
  });
}

// Producers (warps 0, 1) fill and arrive without waiting; consumers (warps 2, 3) wait, read, and
// let the next round begin.
static __global__ void hand_over(int* out, int rounds) {
  int* box = simt::smem<int>();
  const int t = threadIdx.x;
  for (int round = 0; round < rounds; round++) {
    if (t < 64) {
      if (round > 0) simt::barrier_sync(2, 128);
      box[t] = 1000 * round + t;
      simt::barrier_arrive(1, 128);
    } else {
      simt::barrier_sync(1, 128);
      out[64 * round + t - 64] = box[127 - t];
      if (round + 1 < rounds) simt::barrier_arrive(2, 128);
    }
  }
}

MOEPP_TEST(simt_named_barriers_count_arrivals) {
  for_each_schedule([] {
    Shared<int> out(64 * 5, -1);
    EXPECT_RUNS(hand_over, {dim3(1), dim3(128), 64 * sizeof(int)}, out.data(), 5);
    for (size_t i = 0; i < out.size(); i++)
      EXPECT(out[i] == static_cast<int>(1000 * (i / 64) + 63 - i % 64));
  });
}

// Every block adds its counts; the last one to finish sees the others' (threadfence pattern of the
// CUDA guide).
static __global__ void count(const int* values, int n, int* counts, unsigned* finished, int* total,
                             float* sum) {
  int* histogram = simt::smem<int>();
  if (threadIdx.x < 16) histogram[threadIdx.x] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&histogram[values[i] + 7], 1);
  __syncthreads();
  if (threadIdx.x < 15) {
    atomicAdd(&counts[threadIdx.x], histogram[threadIdx.x]);
    atomicMax(&counts[15], histogram[threadIdx.x]);
    atomicAdd(sum, 0.5f);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && simt::atomic_add_acq_rel(finished, 1) == gridDim.x * gridDim.y - 1) {
    int all = 0;
    for (int i = 0; i < 15; i++) all += counts[i];
    *total = all;
  }
}

MOEPP_TEST(simt_atomics_and_the_last_block) {
  for_each_schedule([] {
    const int n = 1000;
    Shared<int> values(n), counts(16), total(1, -1);
    Shared<unsigned> finished(1);
    Shared<float> sum(1);
    int expected[15] = {};
    for (size_t i = 0; i < n; i++) expected[7 + (values[i] = small_integer(i, 9))]++;
    EXPECT_RUNS(count, {dim3(3, 2), dim3(64), 16 * sizeof(int)}, values.data(), n, counts.data(),
                finished.data(), total.data(), sum.data());
    // both rows of blocks count all values
    for (size_t i = 0; i < 15; i++) EXPECT(counts[i] == 2 * expected[i]);
    EXPECT(total[0] == 2 * n);
    EXPECT(*sum.data() == 0.5f * 15 * 6);
  });
}

// Lanes exchange through shared memory with __syncwarp alone; warps are independent.
static __global__ void rotate(int* out, int steps) {
  int* box = simt::smem<int>() + threadIdx.x / 32 * 32;
  const int lane = threadIdx.x % 32;
  int value = threadIdx.x;
  for (int i = 0; i < steps; i++) {
    box[lane] = value;
    __syncwarp();
    value = box[(lane + 1) % 32];
    __syncwarp();
  }
  out[threadIdx.x] = value;
}

MOEPP_TEST(simt_syncwarp_orders_shared_memory) {
  for_each_schedule([] {
    Shared<int> out(96);
    EXPECT_RUNS(rotate, {dim3(1), dim3(96), 96 * sizeof(int)}, out.data(), 5);
    for (size_t i = 0; i < 96; i++)
      EXPECT(out[i] == static_cast<int>(i / 32 * 32 + (i % 32 + 5) % 32));
  });
}

// Flags between threads of a block: a spin loop must let the others run.
static __global__ void spin(unsigned* flag, int* data, int* out) {
  if (threadIdx.x == 0) {
    *data = 42;
    simt::store_release(flag, 1);
  } else if (threadIdx.x == 32) {
    while (simt::load_acquire(flag) == 0) {
    }
    *out = *data;
  }
}

MOEPP_TEST(simt_release_and_acquire) {
  for_each_schedule([] {
    Shared<unsigned> flag(1);
    Shared<int> data(1), out(1);
    EXPECT_RUNS(spin, {dim3(1), dim3(64)}, flag.data(), data.data(), out.data());
    EXPECT(out[0] == 42);
  });
}

}  // namespace moepp::simt_test
