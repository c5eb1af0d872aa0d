#include "compute_peaks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "isa/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "tile_products.h"
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace moepp::cpu {

constexpr int kChains = 12;  // >= 2 pipes * 5 cycles of latency, and few enough for 16 registers
constexpr int64_t kRounds = 1 << 15;  // of one task: about 0.1 ms
constexpr int64_t kPassRuns = 64;     // of each thread
constexpr int kPasses = 5;

#if defined(__clang__)
#define MOEPP_UNROLL _Pragma("unroll")
#else
#define MOEPP_UNROLL _Pragma("GCC unroll 16")
#endif

// A loop of kRounds rounds of kChains independent multiply-adds. `target` lets one file hold every
// instruction. All loops over the chains are unrolled, else g++ 12 keeps them in memory.
#define MOEPP_PEAK(suffix, target, Vector, set1, step)                         \
  target static uint64_t run_##suffix() {                                      \
    Vector chain[kChains];                                                     \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) chain[i] = set1(i);         \
    const Vector a = set1(1), b = set1(3);                                     \
    for (int64_t r = 0; r < kRounds; r++) {                                    \
      MOEPP_UNROLL for (int i = 0; i < kChains; i++) { step(chain[i], a, b); } \
    }                                                                          \
    uint64_t sum = 0;                                                          \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) {                           \
      const Vector last = chain[i];                                            \
      uint64_t bits;                                                           \
      std::memcpy(&bits, &last, sizeof bits);                                  \
      sum ^= bits;                                                             \
    }                                                                          \
    return sum;                                                                \
  }

constexpr double kChainSteps = kRounds * kChains;  // instructions of one run of MOEPP_PEAK's loops

#if defined(__x86_64__)
#define MOEPP_STEP_512(sum, a, b) sum = _mm512_fmadd_ps(a, b, sum)
#define MOEPP_STEP_VNNI_512(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define MOEPP_STEP_BF16_512(sum, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define MOEPP_STEP_256(sum, a, b) sum = _mm256_fmadd_ps(a, b, sum)
#define MOEPP_STEP_VNNI_256(sum, a, b) \
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define MOEPP_STEP_128(sum, a, b) sum = _mm_add_ps(_mm_mul_ps(sum, a), b)
// The products of pairs and their sum, added to the sums before, as simd_int8.h has it. Assembly,
// since compilers know that the products are the same each time.
#define MOEPP_STEP_MADD_512(sum, a, b) \
  __m512i pairs;                       \
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(pairs) : "v"(a), "v"(b))
#define MOEPP_STEP_MADD_256(sum, a, b) \
  __m256i pairs;                       \
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(pairs) : "x"(a), "x"(b))
#define MOEPP_STEP_MADD_128(sum, a, b) \
  __m128i pairs = a;                   \
  __asm__("pmaddwd %2, %1\n\tpaddd %1, %0" : "+x"(sum), "+x"(pairs) : "x"(b))
MOEPP_PEAK(avx512, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps, MOEPP_STEP_512)
MOEPP_PEAK(avx512vnni, __attribute__((target("avx512f"))), __m512i, _mm512_set1_epi32,
           MOEPP_STEP_VNNI_512)
MOEPP_PEAK(avx512bf16, __attribute__((target("avx512f"))), __m512i, _mm512_set1_epi32,
           MOEPP_STEP_BF16_512)
MOEPP_PEAK(avx2, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps, MOEPP_STEP_256)
MOEPP_PEAK(avxvnni, __attribute__((target("avx2"))), __m256i, _mm256_set1_epi32,
           MOEPP_STEP_VNNI_256)
MOEPP_PEAK(scalar, , __m128, _mm_set1_ps, MOEPP_STEP_128)
MOEPP_PEAK(avx512_madd, __attribute__((target("avx512bw"))), __m512i, _mm512_set1_epi32,
           MOEPP_STEP_MADD_512)
MOEPP_PEAK(avx2_madd, __attribute__((target("avx2"))), __m256i, _mm256_set1_epi32,
           MOEPP_STEP_MADD_256)
MOEPP_PEAK(scalar_madd, , __m128i, _mm_set1_epi32, MOEPP_STEP_MADD_128)

// Another instruction is one line here and one loop above.
static const PeakLoop kLoops[] = {
    {"f32_fma", " amx avx512bf16 avx512vnni avx512 ", 32 * kChainSteps, &run_avx512},
    {"int8_vnni", " amx avx512bf16 avx512vnni ", 128 * kChainSteps, &run_avx512vnni},
    {"bf16_dot", " avx512bf16 ", 64 * kChainSteps, &run_avx512bf16},
    {"int8_madd", " avx512 ", 64 * kChainSteps, &run_avx512_madd},
    {"f32_fma", " avxvnni avx2 ", 16 * kChainSteps, &run_avx2},
    {"int8_vnni", " avxvnni ", 64 * kChainSteps, &run_avxvnni},
    {"int8_madd", " avx2 ", 32 * kChainSteps, &run_avx2_madd},
    {"f32_fma", " scalar ", 8 * kChainSteps, &run_scalar},
    {"int8_madd", " scalar ", 16 * kChainSteps, &run_scalar_madd},
#if defined(MOEPP_HAS_AMX)
    // An f32 activation is three bf16 parts, and a bf16 weight multiplies each of them.
    {"bf16_amx", " amx ", bf16_tile_operations() / 3.0, &multiply_bf16_tiles},
    {"int8_amx", " amx ", int8_tile_operations(), &multiply_int8_tiles},
#endif
};
#elif defined(__ARM_NEON)
#define MOEPP_SET1_NEON(x) vdupq_n_f32(static_cast<float>(x))
#define MOEPP_STEP_NEON(sum, a, b) sum = vfmaq_f32(sum, a, b)
MOEPP_PEAK(neon, , float32x4_t, MOEPP_SET1_NEON, MOEPP_STEP_NEON)
#define MOEPP_STEP_DOT(sum, a, b) \
  __asm__(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b))
#define MOEPP_STEP_MADD(sum, a, b) __asm__("smlal %0.4s, %1.4h, %2.4h" : "+w"(sum) : "w"(a), "w"(b))
#define MOEPP_STEP_I8MM(sum, a, b) \
  __asm__(".arch_extension i8mm\n\tusmmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b))
#define MOEPP_STEP_BFDOT(sum, a, b) \
  __asm__(".arch_extension bf16\n\tbfdot %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b))
#define MOEPP_STEP_BFMMLA(sum, a, b) \
  __asm__(".arch_extension bf16\n\tbfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b))
MOEPP_PEAK(neondot, , int32x4_t, vdupq_n_s32, MOEPP_STEP_DOT)
MOEPP_PEAK(neoni8mm, , int32x4_t, vdupq_n_s32, MOEPP_STEP_I8MM)
MOEPP_PEAK(neonbf16, , int32x4_t, vdupq_n_s32, MOEPP_STEP_BFDOT)
MOEPP_PEAK(neonbf16_mmla, , int32x4_t, vdupq_n_s32, MOEPP_STEP_BFMMLA)
MOEPP_PEAK(neon_madd, , int32x4_t, vdupq_n_s32, MOEPP_STEP_MADD)
static const PeakLoop kLoops[] = {
    {"f32_fma", " neonbf16 neoni8mm neondot neon scalar ", 8 * kChainSteps, &run_neon},
    {"int8_dot", " neondot ", 32 * kChainSteps, &run_neondot},
    {"int8_mmla", " neonbf16 neoni8mm ", 64 * kChainSteps, &run_neoni8mm},
    {"bf16_dot", " neonbf16 ", 16 * kChainSteps, &run_neonbf16},
    {"bf16_mmla", " neonbf16 ", 32 * kChainSteps, &run_neonbf16_mmla},
    {"int8_madd", " neon scalar ", 8 * kChainSteps, &run_neon_madd},
};
#else
#define MOEPP_SET1_SCALAR(x) static_cast<double>(x)
#define MOEPP_STEP_SCALAR(sum, a, b) sum = sum * a + b
MOEPP_PEAK(scalar, , double, MOEPP_SET1_SCALAR, MOEPP_STEP_SCALAR)
static const PeakLoop kLoops[] = {{"f32_fma", " scalar ", 2 * kChainSteps, &run_scalar}};
#endif

std::vector<PeakLoop> peak_loops(const std::string& isa) {
  std::vector<PeakLoop> loops;
  for (const PeakLoop& loop : kLoops) {
    if (std::strstr(loop.isas, (" " + isa + " ").c_str()) != nullptr) loops.push_back(loop);
  }
  return loops;
}

double peak_rate(const PeakLoop& loop, int64_t runs, ThreadPool& pool) {
  std::atomic<uint64_t> sink{0};  // keeps the sums alive
  const int64_t tasks = runs * pool.threads();
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(tasks,
                    [&](int64_t, int) { sink.fetch_xor(loop.run(), std::memory_order_relaxed); });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(tasks) * loop.operations / seconds.count();
}

Status measure_compute_peaks(int threads, const std::string& isa, std::vector<ComputePeak>* peaks) {
  const std::vector<Isa>& isas = available_isas();
  const bool known =
      std::any_of(isas.begin(), isas.end(), [&](const Isa& each) { return isa == each.name; });
  if (!known)
    return Status::error(Code::kUnsupported,
                         "isa is " + isa + ", expected one that this processor can run");
  ThreadPool pool(threads > 0 ? threads : available_threads());
  for (const PeakLoop& loop : peak_loops(isa)) {
    double best = 0;
    for (int pass = 0; pass < kPasses; pass++)
      best = std::max(best, peak_rate(loop, kPassRuns, pool));
    peaks->push_back({loop.name, best});
  }
  return {};
}

}  // namespace moepp::cpu
