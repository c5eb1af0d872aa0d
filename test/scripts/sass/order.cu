// Kernels that scripts/sass-check.mjs must tell apart by what they do before they wait for the
// kernel ahead of them.
// SASS * in_order: ACQBULK PREEXIT LDG STG
// SASS * loads_early: ACQBULK
// SASS * loads_far_away: ACQBULK
// SASS * loads_in_branch: ACQBULK
// SASS * loads_two: ACQBULK early-LDG<=1
// SASS * loads_one: ACQBULK early-LDG<=1
// SASS * loads_none: ACQBULK early-LDG<=1
// SASS * stores_early: ACQBULK
// SASS * adds_early: ACQBULK
// SASS * copies_early: ACQBULK
// SASS * lets_go_early: ACQBULK PREEXIT
// SASS * waits_twice: ACQBULK
// SASS * ends_early: ACQBULK
// SASS * may_not_wait: ACQBULK
// SASS * waits_never: !ACQBULK
#include "cuda/simt/simt.h"

namespace fixture {

// Shared memory, barriers, parameters and prefetches are no business of other kernels.
__global__ void in_order(const int* in, int* out, int n) {
  auto* shared = simt::smem<int>();
  shared[threadIdx.x] = n;
  if (threadIdx.x == 0) simt::prefetch_l2(in + n);
  __syncthreads();
  for (int i = 0; i < n; i++) shared[threadIdx.x] += shared[i];
  simt::wait_for_dependencies();
  simt::launch_dependents();
  out[threadIdx.x] = in[threadIdx.x] + shared[threadIdx.x];
}

__global__ void loads_early(const int* in, int* out) {
  const int value = in[threadIdx.x];
  simt::wait_for_dependencies();
  out[threadIdx.x] = value;
}

// The function's code lies behind the kernel's.
__device__ __noinline__ int load(const int* in) {
  return in[threadIdx.x] * in[blockIdx.x];
}
__global__ void loads_far_away(const int* in, int* out, int n) {
  int value = n;
  if (n > 0) value = load(in);
  simt::wait_for_dependencies();
  out[threadIdx.x] = value;
}

__global__ void loads_in_branch(const int* in, int* out, int n) {
  int value = n;
  if (static_cast<int>(threadIdx.x) < n) {
    value = in[threadIdx.x];
    for (int i = 0; i < value; i++) value = value * value + i;
  }
  simt::wait_for_dependencies();
  out[threadIdx.x] = value;
}

__global__ void loads_two(const int* in, int* out) {
  const int value = in[threadIdx.x] + in[2 * threadIdx.x];
  simt::wait_for_dependencies();
  out[threadIdx.x] = value;
}

__global__ void loads_one(const int* in, int* out) {
  const int value = in[threadIdx.x];
  simt::wait_for_dependencies();
  out[threadIdx.x] = value + in[2 * threadIdx.x];
}

__global__ void loads_none(const int* in, int* out) {
  simt::wait_for_dependencies();
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void stores_early(int* out) {
  out[threadIdx.x] = 1;
  simt::wait_for_dependencies();
}

__global__ void adds_early(int* out) {
  atomicAdd(out, 1);
  simt::wait_for_dependencies();
}

__global__ void copies_early(const float* in, float* out) {
  auto* shared = simt::smem<float>();
  simt::cp_async<16>(shared, in);
  simt::wait_for_dependencies();
  out[threadIdx.x] = shared[0];
}

__global__ void lets_go_early(const int* in, int* out) {
  simt::launch_dependents();
  simt::wait_for_dependencies();
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void waits_twice(const int* in, int* out, int n) {
  simt::wait_for_dependencies();
  out[threadIdx.x] = in[threadIdx.x];
  simt::wait_for_dependencies();
  out[n] = in[n];
}

__global__ void ends_early(const int* in, int* out, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  simt::wait_for_dependencies();
  out[threadIdx.x] = in[threadIdx.x];
}

__global__ void may_not_wait(const int* in, int* out, int n) {
  if (static_cast<int>(threadIdx.x) < n) simt::wait_for_dependencies();
  out[threadIdx.x] = in[threadIdx.x];
}

// Launched without an overlap: the order does not matter.
__global__ void waits_never(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];
}

}  // namespace fixture
