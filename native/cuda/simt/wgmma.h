// Matrix products by a warpgroup of 128 threads, both operands in shared memory (sm_90a). PTX:
// wgmma.mma_async.
#pragma once

#include "cuda/simt/base.h"

namespace simt {

// A K-major operand of bf16 with the swizzle k128: rows of 128 bytes (64 elements of k) in groups
// of 8, 1024 bytes apart. The array begins at a multiple of 1024. For the k-th 16 elements of the
// 64, p is the array + 32 k bytes. PTX: matrix descriptor. Bits 0-13 address / 16, 16-29 leading
// offset (not used here, 1), 32-45 stride / 16, 62-63 swizzle.
SIMT_DEVICE uint64_t wgmma_descriptor(const void* p) {
  return static_cast<uint64_t>((smem_address(p) & 0x3ffff) >> 4) | (uint64_t{1} << 16) |
         (uint64_t{1024 >> 4} << 32) | (uint64_t{1} << 62);
}

// Before the first product, and after the accumulators were touched.
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
#define SIMT_REGISTERS_1 \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SIMT_REGISTERS_2 \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define SIMT_REGISTERS_3 \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define SIMT_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), \
                   "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SIMT_D32(i) SIMT_D8(i), SIMT_D8(i + 8), SIMT_D8(i + 16), SIMT_D8(i + 24)
// The four operands after the accumulators: descriptors of a and b, and whether to add.
#define SIMT_WGMMA(n, registers, a_operand, b_operand, add_operand, ...)                                               \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add_operand ", 0;\n"                                                \
               "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" registers "}, " a_operand ", " b_operand    \
               ", p, 1, 1, 0, 0;\n}"                                                                                   \
               : __VA_ARGS__ : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)))
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

#undef SIMT_WGMMA
#undef SIMT_D32
#undef SIMT_D8
#undef SIMT_REGISTERS_0
#undef SIMT_REGISTERS_1
#undef SIMT_REGISTERS_2
#undef SIMT_REGISTERS_3

}  // namespace simt
