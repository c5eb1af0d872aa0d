// The products in plain f32 (s32), k ascending. The hardware's order and rounding are its own; PTX
// leaves them open.
#pragma once

#include "cuda/simt/emu/warp.h"

namespace simt {

namespace emu {

// The fragments' layouts, from PTX: lane 4g + c, register i, part p of it.
//                a[i]                                      b[i]                      p
//   16-bit, k16  row g + 8 (i % 2), k 2c + 8 (i / 2) + p   row g, k 2c + 8 i + p     p < 2
//   tf32, k8     row g + 8 (i % 2), k c + 4 (i / 2)        row g, k c + 4 i          p < 1
//   s8, k32      row g + 8 (i % 2), k 4c + 16 (i / 2) + p  row g, k 4c + 16 i + p    p < 4
// In all three, Parts values per register and 4 Parts values of k to the next one.
struct Bf16Type {
  static constexpr int kParts = 2;
  using Value = float;
  static float part(uint32_t r, int p) {
    return __uint_as_float(p == 0 ? r << 16 : r & 0xffff0000u);
  }
};
struct F16Type {
  static constexpr int kParts = 2;
  using Value = float;
  static float part(uint32_t r, int p) {
    return to_float(f16{static_cast<uint16_t>(r >> (16 * p))});
  }
};
struct Tf32Type {
  static constexpr int kParts = 1;
  using Value = float;
  static float part(uint32_t r, int) { return __uint_as_float(r & ~0x1fffu); }
};
struct S8Type {
  static constexpr int kParts = 4;
  using Value = int;
  static int part(uint32_t r, int p) { return static_cast<int8_t>(r >> (8 * p)); }
};

template <class Value>
struct MmaArgs {
  Value* d;
  const uint32_t *a, *b;
};
template <class Type>
SIMT_REGISTERS void multiply(void** args, uint32_t) {
  using Value = typename Type::Value;
  constexpr int kParts = Type::kParts, kDepth = 8 * kParts;
  Value a[16][kDepth], b[8][kDepth];
  for (int lane = 0; lane < 32; lane++) {
    const auto* m = static_cast<MmaArgs<Value>*>(args[lane]);
    const int g = lane / 4, c = lane % 4;
    for (int i = 0; i < 4; i++) {
      for (int p = 0; p < kParts; p++) {
        const int k = kParts * c + 4 * kParts * (i / 2) + p;
        a[g + 8 * (i % 2)][k] = Type::part(m->a[i], p);
        if (i % 2 == 0) b[g][k] = Type::part(m->b[i / 2], p);
      }
    }
  }
  for (int lane = 0; lane < 32; lane++) {
    auto* m = static_cast<MmaArgs<Value>*>(args[lane]);
    for (int i = 0; i < 4; i++) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      Value sum = 0;
      for (int k = 0; k < kDepth; k++) sum += a[row][k] * b[column][k];
      m->d[i] += sum;
    }
  }
}
template <class Type>
inline void mma(typename Type::Value* d, const uint32_t* a, const uint32_t* b, const char* op,
                Site at) {
  MmaArgs<typename Type::Value> args = {d, a, b};
  warp_meet(~0u, {op, true}, &args, multiply<Type>, at);
}

}  // namespace emu

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::mma<emu::Bf16Type>(d, a, b, "mma_bf16", at);
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::mma<emu::F16Type>(d, a, b, "mma_f16", at);
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::mma<emu::Tf32Type>(d, a, b, "mma_tf32", at);
}
inline void mma_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], SIMT_AT) {
  emu::mma<emu::S8Type>(d, a, b, "mma_s8", at);
}

}  // namespace simt
