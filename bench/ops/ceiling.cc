// The ceilings of a processor, measured: multiply-adds of f32 and of 8-bit integers from registers, and reading memory that no
// cache holds.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "bench.h"
#include "cpu/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace moepp::bench {

// One instruction set's loops. multiply_add does `rounds` rounds of kChains independent multiply-adds of `lanes` floats each.
struct Loops {
  int lanes;
  float (*multiply_add)(int64_t rounds);
  float (*read)(const float* data, int64_t floats);  // floats is a multiple of 256
};

constexpr int kChains = 12;               // >= 2 pipes * 5 cycles of latency, and few enough for 16 registers
constexpr int64_t kReadTask = 256 << 10;  // floats: 1 MiB
constexpr int64_t kReadWindow = 32;       // tasks of one measurement
constexpr int64_t kReadWindows = 16;      // 512 MiB in turn, so that no cache holds any of it

#if defined(__clang__)
#define MOEPP_UNROLL _Pragma("unroll")
#else
#define MOEPP_UNROLL _Pragma("GCC unroll 16")
#endif

// GCC and Clang keep the chains in registers and unroll both loops; `target` lets one file hold every set.
#define MOEPP_CEILING(suffix, target, Vector, width, zero, set1, load, add, fma)                       \
  target static float multiply_add_##suffix(int64_t rounds) {                                          \
    Vector chain[kChains];                                                                             \
    const Vector a = set1(0.999999f), b = set1(1e-7f);                                                 \
    for (int i = 0; i < kChains; i++) chain[i] = set1(static_cast<float>(i));                          \
    for (int64_t r = 0; r < rounds; r++) {                                                             \
      MOEPP_UNROLL for (int i = 0; i < kChains; i++) chain[i] = fma(chain[i], a, b);                   \
    }                                                                                                  \
    Vector total = zero();                                                                             \
    for (int i = 0; i < kChains; i++) total = add(total, chain[i]);                                    \
    return reinterpret_cast<const float*>(&total)[0];                                                  \
  }                                                                                                    \
  target static float read_##suffix(const float* data, int64_t floats) {                               \
    Vector total[8] = {zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()};                \
    for (int64_t i = 0; i < floats; i += 8 * (width)) {                                                \
      __builtin_prefetch(data + i + 1024);                                                             \
      MOEPP_UNROLL for (int j = 0; j < 8; j++) total[j] = add(total[j], load(data + i + j * (width))); \
    }                                                                                                  \
    Vector sum = zero();                                                                               \
    for (int j = 0; j < 8; j++) sum = add(sum, total[j]);                                              \
    return reinterpret_cast<const float*>(&sum)[0];                                                    \
  }                                                                                                    \
  static constexpr Loops k_##suffix = {width, &multiply_add_##suffix, &read_##suffix};

#if defined(__x86_64__)
#define MOEPP_SSE_FMA(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
MOEPP_CEILING(avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps,
              _mm512_add_ps, _mm512_fmadd_ps)
MOEPP_CEILING(avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps,
              _mm256_add_ps, _mm256_fmadd_ps)
MOEPP_CEILING(scalar, , __m128, 4, _mm_setzero_ps, _mm_set1_ps, _mm_loadu_ps, _mm_add_ps, MOEPP_SSE_FMA)
static const Loops& loops(const std::string& isa) {
  return isa.rfind("avx512", 0) == 0 || isa == "amx" ? k_avx512 : isa.rfind("avx", 0) == 0 ? k_avx2 : k_scalar;
}
#elif defined(__ARM_NEON)
#define MOEPP_NEON_ZERO() vdupq_n_f32(0.0f)
#define MOEPP_NEON_FMA(a, b, c) vfmaq_f32(c, a, b)
MOEPP_CEILING(neon, , float32x4_t, 4, MOEPP_NEON_ZERO, vdupq_n_f32, vld1q_f32, vaddq_f32, MOEPP_NEON_FMA)
static const Loops& loops(const std::string&) {
  return k_neon;
}
#endif

// Rounds of kChains independent `step`s, each of which does `products` products; the loop of one instruction set.
struct IntegerLoop {
  int products;
  float (*multiply_add)(int64_t rounds);
};
#define MOEPP_INTEGER_CEILING(suffix, target, Vector, count, set, step) \
  target static float integer_multiply_add_##suffix(int64_t rounds) {   \
    Vector chain[kChains];                                              \
    const Vector a = set(1), b = set(2);                                \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) chain[i] = set(i);   \
    for (int64_t r = 0; r < rounds; r++) {                              \
      MOEPP_UNROLL for (int i = 0; i < kChains; i++) { step; }          \
    }                                                                   \
    float total = 0.0f;                                                 \
    MOEPP_UNROLL for (int i = 0; i < kChains; i++) {                    \
      const Vector last = chain[i];                                     \
      float first;                                                      \
      std::memcpy(&first, &last, sizeof first);                         \
      total += first;                                                   \
    }                                                                   \
    return total;                                                       \
  }                                                                     \
  static constexpr IntegerLoop k_integer_##suffix = {count, &integer_multiply_add_##suffix};

#if defined(__x86_64__)
MOEPP_INTEGER_CEILING(avx512vnni, __attribute__((target("avx512f"))), __m512i, 64, _mm512_set1_epi32,
                      __asm__("vpdpbusd %2, %1, %0"
                              : "+v"(chain[i])
                              : "v"(a), "v"(b)))
MOEPP_INTEGER_CEILING(avx512, __attribute__((target("avx512bw"))), __m512i, 32, _mm512_set1_epi32, __m512i product;
                      __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                              : "+v"(chain[i]), "=&v"(product)
                              : "v"(a), "v"(b)))
MOEPP_INTEGER_CEILING(avxvnni, __attribute__((target("avx2"))), __m256i, 32, _mm256_set1_epi32,
                      __asm__("%{vex%} vpdpbusd %2, %1, %0"
                              : "+x"(chain[i])
                              : "x"(a), "x"(b)))
MOEPP_INTEGER_CEILING(avx2, __attribute__((target("avx2"))), __m256i, 16, _mm256_set1_epi32, __m256i product;
                      __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
                              : "+x"(chain[i]), "=&x"(product)
                              : "x"(a), "x"(b)))
MOEPP_INTEGER_CEILING(scalar, , __m128i, 8, _mm_set1_epi32, __m128i product = a; __asm__("pmaddwd %2, %1\n\tpaddd %1, %0"
                                                                                         : "+x"(chain[i]), "+x"(product)
                                                                                         : "x"(b)))
static const IntegerLoop& integer_loop(const std::string& isa) {
  return isa == "avx512vnni" || isa == "amx" ? k_integer_avx512vnni
         : isa == "avx512"                   ? k_integer_avx512
         : isa == "avxvnni"                  ? k_integer_avxvnni
         : isa == "avx2"                     ? k_integer_avx2
                                             : k_integer_scalar;
}
#elif defined(__ARM_NEON)
MOEPP_INTEGER_CEILING(neondot, , int32x4_t, 16, vdupq_n_s32,
                      __asm__(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %2.16b"
                              : "+w"(chain[i])
                              : "w"(a), "w"(b)))
MOEPP_INTEGER_CEILING(neon, , int32x4_t, 4, vdupq_n_s32,
                      chain[i] = vmlal_s16(chain[i], vreinterpret_s16_s32(vget_low_s32(a)),
                                           vreinterpret_s16_s32(vget_low_s32(b))))
static const IntegerLoop& integer_loop(const std::string& isa) {
  return isa == "neondot" ? k_integer_neondot : k_integer_neon;
}
#endif

static std::atomic<float> sink;  // keeps the sums alive

static double read_gb_s(const std::string& isa, cpu::ThreadPool& pool) {
  static const Buffer buffer(static_cast<size_t>(kReadWindows * kReadWindow * kReadTask) * sizeof(float));
  static std::atomic<int64_t> window{0};
  const Loops& loop = loops(isa);
  const float* data = buffer.as<float>() + window.fetch_add(1) % kReadWindows * kReadWindow * kReadTask;
  const double start = now();
  pool.parallel_for(kReadWindow, [&](int64_t task, int) {
    sink.store(loop.read(data + task * kReadTask, kReadTask), std::memory_order_relaxed);
  });
  return 4e-9 * static_cast<double>(kReadWindow * kReadTask) / (now() - start);
}

// Thousand millions of operations a second, of rounds with `products` products and sums in each chain.
static double operations(int products, float (*multiply_add)(int64_t), cpu::ThreadPool& pool) {
  constexpr int64_t kRounds = 1 << 15;
  const int64_t tasks = int64_t{8} * pool.threads();
  const double start = now();
  pool.parallel_for(tasks, [&](int64_t, int) { sink.store(multiply_add(kRounds), std::memory_order_relaxed); });
  return 2e-9 * kChains * products * static_cast<double>(tasks * kRounds) / (now() - start);
}

static double gflop_s(const std::string& isa, cpu::ThreadPool& pool) {
  return operations(loops(isa).lanes, loops(isa).multiply_add, pool);
}

static double int8_gop_s(const std::string& isa, cpu::ThreadPool& pool) {
  return operations(integer_loop(isa).products, integer_loop(isa).multiply_add, pool);
}

namespace {

class CpuCeiling final : public Ceiling {
 public:
  CpuCeiling(const std::string& isa, cpu::ThreadPool& pool) : isa_(isa), pool_(pool) {}
  double gb_s() override { return read_gb_s(isa_, pool_); }
  double gflop_s(DType weights) override { return is_quantised(weights) ? int8_gop_s(isa_, pool_) : bench::gflop_s(isa_, pool_); }

 private:
  std::string isa_;
  cpu::ThreadPool& pool_;
};

}  // namespace

std::unique_ptr<Ceiling> cpu_ceiling(const std::string& isa, Queue& queue) {
  return std::make_unique<CpuCeiling>(isa, static_cast<cpu::ThreadPool&>(queue));
}

}  // namespace moepp::bench
