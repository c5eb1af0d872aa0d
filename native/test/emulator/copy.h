#pragma once

#include "test/emulator/memory.h"
#include "test/emulator/warp.h"

namespace simt {

namespace emu {

// Instrumented on purpose: the sanitizers must see both sides of a copy.
SIMT_COUNTED inline void run_cp_async(const Copy& copy) {
  auto* dst = static_cast<unsigned char*>(copy.dst);
  const auto* src = static_cast<const unsigned char*>(copy.src);
  for (int i = 0; i < copy.bytes; i++) dst[i] = i < copy.source_bytes ? src[i] : 0;
}

// The copy may happen anywhere between its issue and its wait. It is done at one of the two; this
// lets the sanitizers see the accesses at the other one.
SIMT_COUNTED inline void touch(const Copy& copy) {
  auto* dst = static_cast<volatile unsigned char*>(copy.dst);
  const auto* src = static_cast<const volatile unsigned char*>(copy.src);
  for (int i = 0; i < copy.bytes; i++) {
    if (i < copy.source_bytes) (void)src[i];
    const unsigned char same = dst[i];
    dst[i] = same;
  }
}

}  // namespace emu

template <int Bytes>
inline void cp_async_zfill(void* dst, const void* src, int source_bytes, SIMT_AT) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  if (source_bytes < 0 || source_bytes > Bytes)
    emu::fail(at, "cp.async: %d bytes of %d", source_bytes, Bytes);
  if (reinterpret_cast<uintptr_t>(dst) % Bytes != 0)
    emu::fail(at, "cp.async: the destination is not aligned to %d", Bytes);
  if (source_bytes != 0 && reinterpret_cast<uintptr_t>(src) % Bytes != 0) {
    emu::fail(at, "cp.async: the source is not aligned to %d", Bytes);
  }
  smem_address(dst, at);
  smem_address(static_cast<unsigned char*>(dst) + Bytes - 1, at);
  if (!SIMT_HAS_SM80) return before_sm80::copy_zfill<Bytes>(dst, src, source_bytes);
  const emu::Copy copy = {emu::run_cp_async, dst, src, Bytes, source_bytes};
  emu::touch(copy);
  emu::copy_start(copy, at);
}
template <int Bytes>
inline void cp_async(void* dst, const void* src, SIMT_AT) {
  cp_async_zfill<Bytes>(dst, src, Bytes, at);
}
inline void cp_async_commit() {
  if (SIMT_HAS_SM80) emu::copy_commit();
}
template <int Newest>
inline void cp_async_wait() {
  if (SIMT_HAS_SM80) emu::copy_wait(Newest);
}

namespace emu {

struct Fragment {
  uint16_t row[8];  // what the lane's address points to
  uint32_t* out;
};
template <int Matrices, bool Transposed>
SIMT_REGISTERS void load_fragments(void** args, uint32_t) {
  for (int lane = 0; lane < 32; lane++) {
    for (int m = 0; m < Matrices; m++) {
      uint32_t halves[2];
      for (int i = 0; i < 2; i++) {
        const int row = Transposed ? 2 * (lane % 4) + i : lane / 4,
                  column = Transposed ? lane / 4 : 2 * (lane % 4) + i;
        halves[i] = static_cast<Fragment*>(args[8 * m + row])->row[column];
      }
      static_cast<Fragment*>(args[lane])->out[m] = halves[0] | halves[1] << 16;
    }
  }
}
template <int Matrices, bool Transposed>
inline void ldmatrix(uint32_t* out, const void* row, const char* op, Site at) {
  Fragment fragment = {{}, out};
  // each lane reads the row whose address it gives: the sanitizers see it
  if (lane() < 8 * Matrices) {
    if (smem_address(row, at) % 16 != 0) fail(at, "%s: the row's address is not aligned to 16", op);
    for (int i = 0; i < 8; i++) fragment.row[i] = static_cast<const uint16_t*>(row)[i];
  }
  warp_meet(~0u, {op, true}, &fragment, load_fragments<Matrices, Transposed>, at);
}

}  // namespace emu

inline void ldmatrix_x1(uint32_t& r0, const void* row, SIMT_AT) {
  emu::ldmatrix<1, false>(&r0, row, "ldmatrix_x1", at);
}
inline void ldmatrix_x1_trans(uint32_t& r0, const void* row, SIMT_AT) {
  emu::ldmatrix<1, true>(&r0, row, "ldmatrix_x1_trans", at);
}
inline void ldmatrix_x2(uint32_t& r0, uint32_t& r1, const void* row, SIMT_AT) {
  uint32_t r[2];
  emu::ldmatrix<2, false>(r, row, "ldmatrix_x2", at);
  r0 = r[0], r1 = r[1];
}
inline void ldmatrix_x2_trans(uint32_t& r0, uint32_t& r1, const void* row, SIMT_AT) {
  uint32_t r[2];
  emu::ldmatrix<2, true>(r, row, "ldmatrix_x2_trans", at);
  r0 = r[0], r1 = r[1];
}
inline void ldmatrix_x4(uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3, const void* row,
                        SIMT_AT) {
  uint32_t r[4];
  emu::ldmatrix<4, false>(r, row, "ldmatrix_x4", at);
  r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
}
inline void ldmatrix_x4_trans(uint32_t& r0, uint32_t& r1, uint32_t& r2, uint32_t& r3,
                              const void* row, SIMT_AT) {
  uint32_t r[4];
  emu::ldmatrix<4, true>(r, row, "ldmatrix_x4_trans", at);
  r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
}

}  // namespace simt
