// Replacements of instructions, for code that is compiled for less than sm_80. Both
// compilations include it: the emulation runs it for a GPU whose code was compiled for Turing.
#pragma once

namespace simt::before_sm80 {

// combine() over the lanes of the mask, in all of them, as redux.sync does.
template <class Combine>
SIMT_DEVICE int reduce_lanes(unsigned mask, int x, Combine combine) {
  int result = __shfl_sync(mask, x, __ffs(static_cast<int>(mask)) - 1);
  for (unsigned rest = mask & (mask - 1); rest != 0; rest &= rest - 1)
    result = combine(result, __shfl_sync(mask, x, __ffs(static_cast<int>(rest)) - 1));
  return result;
}

// cp.async with zero fill, done at once.
template <int Bytes>
SIMT_DEVICE void copy_zfill(void* dst, const void* src, int source_bytes) {
  uint32_t words[Bytes / 4];
  for (int i = 0; i < Bytes / 4; i++) {
    words[i] = 0;
    if (source_bytes >= 4 * i + 4) {
      words[i] = static_cast<const uint32_t*>(src)[i];
    } else {
      for (int b = 4 * i; b < source_bytes; b++) {
        words[i] |= static_cast<uint32_t>(static_cast<const unsigned char*>(src)[b])
                    << (8 * (b - 4 * i));
      }
    }
  }
  for (int i = 0; i < Bytes / 4; i++) static_cast<uint32_t*>(dst)[i] = words[i];
}

}  // namespace simt::before_sm80
