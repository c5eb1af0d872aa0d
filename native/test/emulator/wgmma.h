#pragma once

#include "test/emulator/float8.h"
#include "test/emulator/tma.h"

namespace simt {

namespace emu {

// A matrix descriptor of PTX, decoded. The kinds of swizzle are 1 to 3: 128, 64 and 32 bytes.
struct Descriptor {
  uint32_t start, leading, stride, row_bytes, mask;
  unsigned kind, base;

  // They work on engines' stacks, which are no memory of the kernel.
  __attribute__((no_sanitize("thread"))) explicit Descriptor(uint64_t bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        kind(static_cast<unsigned>(bits >> 62)),
        base(static_cast<unsigned>(bits >> 49 & 7)) {
    row_bytes = kind == 0 ? 16 : 256u >> kind;
    mask = row_bytes / 16 - 1;
  }
  // Of element k of a row, or of a column; the swizzle undone. PTX: canonical layouts, K-major and
  // MN-major.
  __attribute__((no_sanitize("thread"))) uint32_t place(bool columns, int row, int k) const {
    return swizzled(offset(columns, row, k), mask);
  }
  __attribute__((no_sanitize("thread"))) uint32_t offset(bool columns, int row, int k) const {
    const auto r = static_cast<uint32_t>(row), i = static_cast<uint32_t>(k), width = row_bytes / 2;
    return columns
               ? start + r / width * leading + i / 8 * stride + i % 8 * row_bytes + r % width * 2
               : start + r / 8 * stride + r % 8 * row_bytes + i * 2;
  }
};

// The sanitizers see an access of shared memory there. The one part of a product that they are to.
__attribute__((noinline)) inline uint32_t seen_operand(uint32_t at) {
  (void)*reinterpret_cast<const volatile uint16_t*>(smem_base() + at);
  return at;
}

SIMT_REGISTERS inline float widened(unsigned bits) {
  return __uint_as_float((bits & 0xffff) << 16);
}

// The elements of two bytes of an operand; k ascends.
struct Bf16 {
  static constexpr int kCount = 1;
  SIMT_REGISTERS static void widen(unsigned bits, float* to) { to[0] = widened(bits); }
};
struct E4m3 {
  static constexpr int kCount = 2;
  SIMT_REGISTERS static void widen(unsigned bits, float* to) {
    to[0] = e4m3_value(bits), to[1] = e4m3_value(bits >> 8);
  }
};

// Two bytes of the image of shared memory that products see.
SIMT_REGISTERS inline unsigned operand(const unsigned char* image, const Descriptor& descriptor,
                                       bool columns, int row, int k) {
  uint16_t bits;
  __builtin_memcpy(&bits, image + seen_operand(descriptor.place(columns, row, k)), 2);
  return bits;
}

template <class Type>
SIMT_REGISTERS inline void run_wgmma(const Product& p) {
  constexpr int kDepth = 16 * Type::kCount;
  float a[64][kDepth], b[256][kDepth];
  const unsigned char* image = async_smem();
  const Descriptor of_a(p.a), of_b(p.b);
  for (int k = 0; k < 16; k++) {  // of two bytes each
    for (int row = 0; row < 64; row++) {
      // PTX: register fragments of A for wgmma.mma_async.m64nNk16
      const int thread = row / 16 * 32 + row % 8 * 4 + k % 8 / 2, i = row / 8 % 2 + k / 8 * 2;
      const unsigned bits = p.a_registers[0] == nullptr ? operand(image, of_a, false, row, k)
                                                        : p.a_registers[thread][i] >> k % 2 * 16;
      Type::widen(bits, a[row] + k * Type::kCount);
    }
    for (int row = 0; row < p.n; row++)
      Type::widen(operand(image, of_b, p.b_columns, row, k), b[row] + k * Type::kCount);
  }
  for (int t = 0; t < 128; t++) {
    for (int i = 0; i < p.n / 2; i++) {
      const int row = 16 * (t / 32) + t % 32 / 4 + 8 * (i / 2 % 2),
                column = 8 * (i / 4) + 2 * (t % 4) + i % 2;
      float sum = 0.0f;
      for (int k = 0; k < kDepth; k++) sum += a[row][k] * b[column][k];
      p.d[t][i] = p.accumulate ? p.d[t][i] + sum : sum;
    }
  }
}

struct WgmmaArgs {
  void (*run)(const Product& product);
  float* d;
  const uint32_t* a_registers;
  uint64_t a, b;
  int n;
  bool b_columns, accumulate;
  Site at;
};
SIMT_REGISTERS inline void start_wgmma(void** args, uint32_t) {
  const auto* first = static_cast<const WgmmaArgs*>(args[0]);
  Product product = {first->run,       {}, {}, first->a, first->b, first->n, first->b_columns,
                     first->accumulate};
  for (int t = 0; t < 128; t++) {
    const auto* own = static_cast<const WgmmaArgs*>(args[t]);
    if (own->a != first->a || own->b != first->b || own->accumulate != first->accumulate) {
      fail(first->at, "wgmma: the threads of the warpgroup give different operands");
    }
    product.d[t] = own->d;
    product.a_registers[t] = own->a_registers;
  }
  product_start(product);
}

// `rows` of k, or columns.
inline void check_descriptor(uint64_t bits, bool columns, int rows, const char* name, Site at) {
  const Descriptor d(bits);
  if (d.kind == 0) fail(at, "wgmma: %s is not swizzled; no other layout is emulated", name);
  if ((d.start >> 7 & d.mask) != d.base)
    fail(at, "wgmma: %s does not begin in the first row of a swizzle", name);
  if (!columns && d.start % d.row_bytes + 32 > d.row_bytes)
    fail(at, "wgmma: 32 bytes of %s cross the end of their row", name);
  if (columns && (d.start % d.row_bytes != 0 || static_cast<uint32_t>(rows) * 2 % d.row_bytes != 0))
    fail(at, "wgmma: %s has columns that are a part of a row", name);
  const uint32_t group = 8 * d.row_bytes;
  if (d.offset(columns, rows - (columns ? 1 : 8), columns ? 8 : 0) / group * group + group >
      smem_bytes()) {
    fail(at, "wgmma: %s reaches beyond shared memory", name);
  }
}

inline void issue_wgmma(const WgmmaArgs& args) {
  require(SIMT_HAS_SM90A, args.at);
  if (args.a_registers == nullptr) check_descriptor(args.a, false, 64, "a", args.at);
  check_descriptor(args.b, args.b_columns, args.n, "b", args.at);
  product_issue(args.at);
  WgmmaArgs own = args;
  group_meet("wgmma", &own, start_wgmma, args.at);
}

}  // namespace emu

inline uint32_t wgmma_row_bytes(Swizzle swizzle) {
  return swizzle == Swizzle::k128 ? 128 : swizzle == Swizzle::k64 ? 64 : 32;
}
inline uint64_t wgmma_descriptor(const void* p, Swizzle swizzle, uint32_t leading_bytes = 16,
                                 SIMT_AT) {
  const uint64_t stride = 8 * wgmma_row_bytes(swizzle), kind = swizzle == Swizzle::k128  ? 1
                                                               : swizzle == Swizzle::k64 ? 2
                                                                                         : 3;
  return static_cast<uint64_t>((smem_address(p, at) & 0x3ffff) >> 4) |
         (static_cast<uint64_t>(leading_bytes >> 4) << 16) | (stride >> 4 << 32) | (kind << 62);
}
inline uint64_t wgmma_descriptor(const void* p, SIMT_AT) {
  return wgmma_descriptor(p, Swizzle::k128, 16, at);
}
inline void wgmma_fence(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_fence", nullptr, [](void**, uint32_t) { emu::product_fence(); }, at);
}
inline void wgmma_commit(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_commit", nullptr, [](void**, uint32_t) { emu::product_commit(); }, at);
}
template <int Newest>
inline void wgmma_wait(SIMT_AT) {
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet(
      "wgmma_wait", nullptr, [](void**, uint32_t) { emu::product_wait(Newest); }, at);
  emu::product_waited();
}
template <int N>
inline void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, SIMT_AT) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256, "widths in use");
  emu::issue_wgmma({emu::run_wgmma<emu::Bf16>, d, nullptr, a, b, N, false, accumulate, at});
}
template <int N>
inline void wgmma_e4m3(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, SIMT_AT) {
  static_assert(N == 96 || N == 128, "widths in use");
  for (const uint64_t bits : {a, b}) {
    if (emu::Descriptor(bits).kind != 1)
      emu::fail(at, "wgmma: e4m3 is emulated in rows of 128 bytes alone");
  }
  emu::issue_wgmma({emu::run_wgmma<emu::E4m3>, d, nullptr, a, b, N, false, accumulate, at});
}
template <int N>
inline void wgmma_bf16_columns(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
                               bool accumulate, SIMT_AT) {
  static_assert(N == 64 || N == 96 || N == 128, "widths in use");
  emu::issue_wgmma({emu::run_wgmma<emu::Bf16>, d, a, 0, b, N, true, accumulate, at});
}

}  // namespace simt
