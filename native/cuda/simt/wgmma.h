// Matrix products by a warpgroup of 128 threads, operands in shared memory or, of a, in registers
// (sm_90a). PTX: wgmma.mma_async.
#pragma once

#include "cuda/simt/base.h"
#include "cuda/simt/tile_map.h"

namespace simt {

// The bytes of a row of an operand in shared memory.
SIMT_HOST_DEVICE constexpr uint32_t wgmma_row_bytes(Swizzle swizzle) {
  return swizzle == Swizzle::k128 ? 128 : swizzle == Swizzle::k64 ? 64 : 32;
}

// An operand: rows of as many bytes as the swizzle's name says, one after another, in
// groups of 8. Arrays begin at a multiple of 8 rows.
//   by rows     (K-major) A row has elements of k. For 16 of bf16 p is the array + 32 bytes for
//               each 16 before. leading_bytes is not used: 16.
//   by columns  (MN-major, of b) A row is one k, and has columns. The array has the first columns,
//               of all k. The next columns follow leading_bytes behind it. For 16 of k, p is the
//               array + 16 rows for each 16 before.
// PTX: matrix descriptor; canonical layouts. Bits 0-13 address / 16, 16-29 leading dimension offset
// / 16, 32-45 stride dimension offset / 16 (from 8 rows to the next), 62-63 swizzle: 1 for 128
// bytes, 2 for 64, 3 for 32.
SIMT_DEVICE uint64_t wgmma_descriptor(const void* p, Swizzle swizzle, uint32_t leading_bytes = 16) {
  const uint64_t stride = 8 * wgmma_row_bytes(swizzle), kind = swizzle == Swizzle::k128  ? 1
                                                               : swizzle == Swizzle::k64 ? 2
                                                                                         : 3;
  return static_cast<uint64_t>((smem_address(p) & 0x3ffff) >> 4) |
         (static_cast<uint64_t>(leading_bytes >> 4) << 16) | (stride >> 4 << 32) | (kind << 62);
}
SIMT_DEVICE uint64_t wgmma_descriptor(const void* p) {
  return wgmma_descriptor(p, Swizzle::k128);
}

// Before the first product, and after accumulators, or an a in registers, were touched.
SIMT_DEVICE void wgmma_fence() {
#if SIMT_HAS_SM90A
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  unsupported();
#endif
}
SIMT_DEVICE void wgmma_commit() {
#if SIMT_HAS_SM90A
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  unsupported();
#endif
}
// Until all but the Newest last committed groups of the warpgroup are done; only then may
// accumulators be read and operands be overwritten.
template <int Newest>
SIMT_DEVICE void wgmma_wait() {
#if SIMT_HAS_SM90A
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Newest) : "memory");
#else
  unsupported();
#endif
}

// clang-format off
#define SIMT_REGISTERS_0 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SIMT_REGISTERS_1A \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define SIMT_REGISTERS_1 SIMT_REGISTERS_1A \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SIMT_REGISTERS_2 \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SIMT_REGISTERS_3 \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SIMT_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
                   "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SIMT_D32(i) SIMT_D8(i), SIMT_D8(i + 8), SIMT_D8(i + 16), SIMT_D8(i + 24)
// The kind of product, its modifiers; the accumulators' names; then the operands after them:
// descriptors of a and b, and whether to add.
#define SIMT_WGMMA_OF(kind, modifiers, registers, a_operand, b_operand, add_operand, ...)                              \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add_operand ", 0;\n"                                                \
               "wgmma.mma_async.sync.aligned.m64" kind " {" registers "}, " a_operand ", " b_operand ", p" modifiers ";\n}" \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
#define SIMT_WGMMA(n, ...) SIMT_WGMMA_OF("n" n "k16.f32.bf16.bf16", ", 1, 1, 0, 0", __VA_ARGS__)
#define SIMT_WGMMA_E4M3(n, ...) SIMT_WGMMA_OF("n" n "k32.f32.e4m3.e4m3", ", 1, 1", __VA_ARGS__)
#define SIMT_WGMMA_COLUMNS(n, registers, a_operand, b_operand, add_operand, ...)                                       \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add_operand ", 0;\n"                                                \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" registers "}, {" a_operand "}, " b_operand  \
               ", p, 1, 1, 1;\n}"                                                                                      \
               : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)))
// clang-format on

// d = a b^T, or d += a b^T with accumulate: a is 64 x 16, b is N x 16, bf16, from descriptors.
// Thread t of the warpgroup holds d[4j + e]:
//   row 16 (t / 32) + (t % 32) / 4 + 8 (e / 2), column 8j + 2 (t % 4) + e % 2
// Later: see wgmma_wait. PTX: register fragments for wgmma.mma_async.m64nNk16, accumulator D.
template <int N>
SIMT_DEVICE void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256, "widths in use");
#if SIMT_HAS_SM90A
  if constexpr (N == 64) {
    SIMT_WGMMA("64", SIMT_REGISTERS_0, "%32", "%33", "%34", SIMT_D32(0));
  } else if constexpr (N == 128) {
    SIMT_WGMMA("128", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1, "%64", "%65", "%66", SIMT_D32(0),
               SIMT_D32(32));
  } else if constexpr (N == 192) {
    SIMT_WGMMA("192", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1 ", " SIMT_REGISTERS_2, "%96", "%97",
               "%98", SIMT_D32(0), SIMT_D32(32), SIMT_D32(64));
  } else {
    SIMT_WGMMA("256",
               SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1 ", " SIMT_REGISTERS_2 ", " SIMT_REGISTERS_3,
               "%128", "%129", "%130", SIMT_D32(0), SIMT_D32(32), SIMT_D32(64), SIMT_D32(96));
  }
#else
  unsupported();
#endif
}

// The same of e4m3: a is 64 x 32, b is N x 32. Rows of 128 bytes have 128 k. For 32 of them p is
// the array + 32 bytes for each 32 before. Hopper adds products with few bits (PTX leaves it open):
// sum 128 k at most, and add such sums in f32. PTX: wgmma.mma_async.m64nNk32 with .e4m3.
template <int N>
SIMT_DEVICE void wgmma_e4m3(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N == 96 || N == 128, "widths in use");
#if SIMT_HAS_SM90A
  if constexpr (N == 96) {
    SIMT_WGMMA_E4M3("96", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1A, "%48", "%49", "%50", SIMT_D32(0),
                    SIMT_D8(32), SIMT_D8(40));
  } else {
    SIMT_WGMMA_E4M3("128", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1, "%64", "%65", "%66", SIMT_D32(0),
                    SIMT_D32(32));
  }
#else
  unsupported();
#endif
}

// d = a b, or d += a b with accumulate: b is 16 x N, by columns, from a descriptor. a is 64 x 16 in
// registers: a warp has 16 rows, laid out as a of mma_bf16. Neither a nor d may be touched until
// wgmma_wait. PTX: wgmma.mma_async with matrix A in registers, and imm-trans-b 1 for a b that is
// MN-major.
template <int N>
SIMT_DEVICE void wgmma_bf16_columns(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
                                    bool accumulate) {
  static_assert(N == 64 || N == 96 || N == 128, "widths in use");
#if SIMT_HAS_SM90A
  if constexpr (N == 64) {
    SIMT_WGMMA_COLUMNS("64", SIMT_REGISTERS_0, "%32, %33, %34, %35", "%36", "%37", SIMT_D32(0));
  } else if constexpr (N == 96) {
    SIMT_WGMMA_COLUMNS("96", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1A, "%48, %49, %50, %51", "%52",
                       "%53", SIMT_D32(0), SIMT_D8(32), SIMT_D8(40));
  } else {
    SIMT_WGMMA_COLUMNS("128", SIMT_REGISTERS_0 ", " SIMT_REGISTERS_1, "%64, %65, %66, %67", "%68",
                       "%69", SIMT_D32(0), SIMT_D32(32));
  }
#else
  unsupported();
#endif
}

#undef SIMT_WGMMA_OF
#undef SIMT_WGMMA
#undef SIMT_WGMMA_E4M3
#undef SIMT_WGMMA_COLUMNS
#undef SIMT_D32
#undef SIMT_D8
#undef SIMT_REGISTERS_0
#undef SIMT_REGISTERS_1
#undef SIMT_REGISTERS_1A
#undef SIMT_REGISTERS_2
#undef SIMT_REGISTERS_3

}  // namespace simt
