#include "compute_peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "isa/isa.h"
#include "thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "tile_products.h"
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace moepp::cpu {

constexpr int kChains = 12;           // >= 2 pipes * 5 cycles of latency, and few enough for 16 registers
constexpr int64_t kRounds = 1 << 15;  // of one task: about 0.1 ms
constexpr int64_t kTasks = 64;        // of each thread in a pass
constexpr int kPasses = 5;

#if defined(__clang__)
#define MOEPP_UNROLL _Pragma("unroll")
#else
#define MOEPP_UNROLL _Pragma("GCC unroll 16")
#endif

// A loop of kRounds rounds of kChains independent multiply-adds. `target` lets one file hold every instruction. All loops over
// the chains are unrolled, else g++ 12 keeps them in memory.
#define MOEPP_PEAK(suffix, target, Vector, set1, step)                     \
  target static uint64_t run_##suffix() {                                  \
    Vector chain[kChains];                                                 \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) chain[i] = set1(i);     \
    const Vector a = set1(1), b = set1(3);                                 \
    for (int64_t r = 0; r < kRounds; r++) {                                \
      MOEPP_UNROLL for (int i = 0; i < kChains; i++) step(chain[i], a, b); \
    }                                                                      \
    uint64_t sum = 0;                                                      \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) {                       \
      const Vector last = chain[i];                                        \
      uint64_t bits;                                                       \
      std::memcpy(&bits, &last, sizeof bits);                              \
      sum ^= bits;                                                         \
    }                                                                      \
    return sum;                                                            \
  }

struct Loop {
  const char* name;
  const char* isas;   // whose kernels use the instruction, each between two spaces
  double operations;  // of one run
  uint64_t (*run)();
};

constexpr double kChainSteps = kRounds * kChains;  // instructions of one run of MOEPP_PEAK's loops

#if defined(__x86_64__)
#define MOEPP_STEP_512(sum, a, b) sum = _mm512_fmadd_ps(a, b, sum)
#define MOEPP_STEP_VNNI_512(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define MOEPP_STEP_256(sum, a, b) sum = _mm256_fmadd_ps(a, b, sum)
#define MOEPP_STEP_VNNI_256(sum, a, b) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define MOEPP_STEP_128(sum, a, b) sum = _mm_add_ps(_mm_mul_ps(sum, a), b)
MOEPP_PEAK(avx512, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps, MOEPP_STEP_512)
MOEPP_PEAK(avx512vnni, __attribute__((target("avx512f"))), __m512i, _mm512_set1_epi32, MOEPP_STEP_VNNI_512)
MOEPP_PEAK(avx2, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps, MOEPP_STEP_256)
MOEPP_PEAK(avxvnni, __attribute__((target("avx2"))), __m256i, _mm256_set1_epi32, MOEPP_STEP_VNNI_256)
MOEPP_PEAK(scalar, , __m128, _mm_set1_ps, MOEPP_STEP_128)

// Another instruction is one line here and one loop above.
static const Loop kLoops[] = {
    {"f32_fma", " amx avx512vnni avx512 ", 32 * kChainSteps, &run_avx512},
    {"int8_vnni", " amx avx512vnni ", 128 * kChainSteps, &run_avx512vnni},
    {"f32_fma", " avxvnni avx2 ", 16 * kChainSteps, &run_avx2},
    {"int8_vnni", " avxvnni ", 64 * kChainSteps, &run_avxvnni},
    {"f32_fma", " scalar ", 8 * kChainSteps, &run_scalar},
#if defined(MOEPP_HAS_AMX)
    // An f32 activation is three bf16 parts, and a bf16 weight meets each of them.
    {"bf16_amx", " amx ", bf16_tile_operations() / 3.0, &multiply_bf16_tiles},
    {"int8_amx", " amx ", int8_tile_operations(), &multiply_int8_tiles},
#endif
};
#elif defined(__ARM_NEON)
#define MOEPP_SET1_NEON(x) vdupq_n_f32(static_cast<float>(x))
#define MOEPP_STEP_NEON(sum, a, b) sum = vfmaq_f32(sum, a, b)
MOEPP_PEAK(neon, , float32x4_t, MOEPP_SET1_NEON, MOEPP_STEP_NEON)
static const Loop kLoops[] = {{"f32_fma", " neondot neon scalar ", 8 * kChainSteps, &run_neon}};
#else
#define MOEPP_SET1_SCALAR(x) static_cast<double>(x)
#define MOEPP_STEP_SCALAR(sum, a, b) sum = sum * a + b
MOEPP_PEAK(scalar, , double, MOEPP_SET1_SCALAR, MOEPP_STEP_SCALAR)
static const Loop kLoops[] = {{"f32_fma", " scalar ", 2 * kChainSteps, &run_scalar}};
#endif

static double rate_of(const Loop& loop, ThreadPool& pool) {
  std::atomic<uint64_t> sink{0};  // keeps the sums alive
  const int64_t tasks = kTasks * pool.threads();
  double best = 0;
  for (int pass = 0; pass < kPasses; pass++) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(tasks, [&](int64_t, int) { sink.fetch_xor(loop.run(), std::memory_order_relaxed); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(tasks) * loop.operations / seconds.count());
  }
  return best;
}

Status measure_compute_peaks(int threads, const std::string& isa, std::vector<ComputePeak>* peaks) {
  const std::vector<Isa>& isas = available_isas();
  const bool known = std::any_of(isas.begin(), isas.end(), [&](const Isa& each) { return isa == each.name; });
  if (!known) return Status::error(Code::kUnsupported, "isa is " + isa + ", expected one that this processor can run");
  ThreadPool pool(threads > 0 ? threads : available_threads());
  for (const Loop& loop : kLoops) {
    if (std::strstr(loop.isas, (" " + isa + " ").c_str()) != nullptr) peaks->push_back({loop.name, rate_of(loop, pool)});
  }
  return {};
}

}  // namespace moepp::cpu
