// The measured ceilings of a GPU. They are reads and copies of memory that no cache holds,
// multiply-adds in f32, and products of bf16 on tensor cores. int8 and int4 weights use the last,
// too. The products run by mma.sync. On Hopper they run by wgmma as well, whose rate mma.sync does
// not reach there.
// SASS * read_all: LDG>=4 FADD>=16 no-spills
// SASS * copy_all: LDG STG no-spills
// SASS * multiply_add: FFMA>=16 no-spills
// SASS sm_80,sm_86,sm_89,sm_90a,sm_100,sm_120 multiply_tiles: HMMA>=8 no-spills
// SASS sm_90a multiply_warpgroups: HGMMA>=4 no-spills
#include "../bench.h"
#include "cuda/cuda_queue.h"
#include "cuda/mma.cuh"
#include "cuda/simt/simt.h"

namespace moepp::bench {

// Not an anonymous namespace: what a chip does not have would be warned about.
namespace ceiling {

constexpr int kThreads = 256, kChains = 8;

__global__ void __launch_bounds__(kThreads) copy_all(const float4* from, float4* to, int64_t n) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride)
    to[i] = from[i];
}

// A sum goes nowhere, as below.
__global__ void __launch_bounds__(kThreads)
    read_all(const float4* from, float* out, int64_t n, float never) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  float sum = 0.0f;
#pragma unroll 4
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) {
    const float4 one = from[i];
    sum += one.x + one.y + one.z + one.w;
  }
  if (sum == never) out[0] = sum;
}

// The sums go nowhere, but the compiler cannot know: `never` is not 0 for it.
__global__ void __launch_bounds__(kThreads) multiply_add(float* out, int rounds, float never) {
  float chain[2 * kChains];
#pragma unroll
  for (int i = 0; i < 2 * kChains; i++)
    chain[i] = static_cast<float>(i + static_cast<int>(threadIdx.x));
  for (int r = 0; r < rounds; r++) {
#pragma unroll
    for (int i = 0; i < 2 * kChains; i++) chain[i] = fmaf(chain[i], 0.999f, 1e-3f);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 2 * kChains; i++) sum += chain[i];
  if (sum == never) out[0] = sum;
}

// m16n8k16 per warp and product: 4096 operations.
__global__ void __launch_bounds__(kThreads) multiply_tiles(float* out, int rounds, float never) {
  SIMT_REQUIRES(SIMT_HAS_SM80) {
    float sums[kChains][4];
    const uint32_t a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3};
    const uint32_t b[2] = {threadIdx.x + 4, threadIdx.x + 5};
#pragma unroll
    for (int i = 0; i < kChains; i++) sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0.0f;
    for (int r = 0; r < rounds; r++) {
#pragma unroll
      for (int i = 0; i < kChains; i++) simt::mma_bf16(sums[i], a, b);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kChains; i++) sum += sums[i][0] + sums[i][1] + sums[i][2] + sums[i][3];
    if (sum == never) out[0] = sum;
  }
}

// Two warpgroups multiply the same operands in shared memory over and over.
constexpr int kWgmmaThreads = 256, kDepth = 64;
struct Operands {
  alignas(1024) simt::bf16 a[2][64 * kDepth], b[256 * kDepth];
};

__global__ void __launch_bounds__(kWgmmaThreads, 1)
    multiply_warpgroups(float* out, int rounds, float never) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& operands = *simt::smem<Operands>();
    auto* words = reinterpret_cast<uint32_t*>(&operands);
    for (int i = threadIdx.x; i < static_cast<int>(sizeof(Operands) / 4); i += kWgmmaThreads)
      words[i] = 0x3c003c00u + static_cast<uint32_t>(i);  // zeros would draw less power
    simt::fence_proxy_async();
    __syncthreads();
    const simt::bf16* a = operands.a[threadIdx.x / 128];
    float sums[128];
#pragma unroll
    for (int i = 0; i < 128; i++) sums[i] = 0.0f;
    for (int r = 0; r < rounds; r++) {
      simt::wgmma_fence();
#pragma unroll
      for (int k = 0; k < kDepth; k += 16) {
        simt::wgmma_bf16<256>(sums, simt::wgmma_descriptor(a + k),
                              simt::wgmma_descriptor(operands.b + k), true);
      }
      simt::wgmma_commit();
    }
    simt::wgmma_wait<0>();
    cuda::after_wgmma(sums);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 128; i++) sum += sums[i];
    if (sum == never) out[0] = sum;
  }
}

}  // namespace ceiling

namespace {

class CudaCeiling final : public Ceiling {
 public:
  explicit CudaCeiling(Device& device)
      : device_(device), queue_(cuda::CudaQueue::from(device.queue())) {
    memory_ = static_cast<std::byte*>(device.allocate(2 * kCopyBytes));
  }
  ~CudaCeiling() override {
    if (memory_ != nullptr) device_.release(memory_, 2 * kCopyBytes);
  }

  // The halves of the memory in turn: the larger caches hold a good part of one.
  double read_gb_s() override {
    if (memory_ == nullptr) return 0.0;
    const double seconds = seconds_of(device_, kCopies, [&](int64_t i) {
      launch(ceiling::read_all, 8, ceiling::kThreads, 0,
             reinterpret_cast<const float4*>(memory_ + i % 2 * kCopyBytes),
             reinterpret_cast<float*>(memory_), kCopyBytes / 16, -1.0f);
    });
    return 1e-9 * static_cast<double>(kCopyBytes) / seconds;
  }

  double copy_gb_s() override {
    if (memory_ == nullptr) return 0.0;
    const double seconds = seconds_of(device_, kCopies, [&](int64_t) {
      launch(ceiling::copy_all, 8, ceiling::kThreads, 0, reinterpret_cast<const float4*>(memory_),
             reinterpret_cast<float4*>(memory_ + kCopyBytes), kCopyBytes / 16);
    });
    return 2e-9 * static_cast<double>(kCopyBytes) / seconds;
  }

  double gflop_s(DType weights, const char*) override {
    if (memory_ == nullptr) return 0.0;
    const bool tensor_cores = weights != DType::kF32 && queue_.compiled().capability >= 80;
    if (tensor_cores && queue_.compiled().wgmma) return wgmma_gflop_s();
    constexpr int kBlocks = 4;
    const int rounds = SIMT_EMULATED ? 2 : tensor_cores ? 4096 : 16384;  // a millisecond or so
    const double seconds = seconds_of(device_, 1, [&](int64_t) {
      launch(tensor_cores ? ceiling::multiply_tiles : ceiling::multiply_add, kBlocks,
             ceiling::kThreads, 0, reinterpret_cast<float*>(memory_), rounds, -1.0f);
    });
    const double of_thread =
        tensor_cores ? ceiling::kChains * 4096.0 / 32.0 : 4.0 * ceiling::kChains;
    return 1e-9 * of_thread * rounds * kBlocks * ceiling::kThreads * queue_.multiprocessors() /
           seconds;
  }

 private:
  static constexpr int64_t kCopyBytes = SIMT_EMULATED ? 4096 : int64_t{256} << 20;
  // So many that the start of the first and the wait for the last do not show.
  static constexpr int64_t kCopies = SIMT_EMULATED ? 2 : 16;

  // blocks: for each multiprocessor.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), int blocks, int threads, size_t smem_bytes,
              Arguments... arguments) {
    const simt::Launch how = {dim3(static_cast<unsigned>(blocks * queue_.multiprocessors())),
                              dim3(static_cast<unsigned>(threads)), smem_bytes, queue_.stream()};
    queue_.check(simt::launch(kernel, how, arguments...));
  }

  double wgmma_gflop_s() {
    constexpr int kRounds = SIMT_EMULATED ? 1 : 2048;
    const double seconds = seconds_of(device_, 1, [&](int64_t) {
      launch(ceiling::multiply_warpgroups, 1, ceiling::kWgmmaThreads, sizeof(ceiling::Operands),
             reinterpret_cast<float*>(memory_), kRounds, -1.0f);
    });
    // Two warpgroups of m64n256k16, four products a round.
    return 1e-9 * 2.0 * 4.0 * 2.0 * 64.0 * 256.0 * 16.0 * kRounds * queue_.multiprocessors() /
           seconds;
  }

  Device& device_;
  cuda::CudaQueue& queue_;
  std::byte* memory_;
};

}  // namespace

std::unique_ptr<Ceiling> cuda_ceiling(Device& device) {
  return std::make_unique<CudaCeiling>(device);
}

}  // namespace moepp::bench
