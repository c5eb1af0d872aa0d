// int8, int4 and float8 weights on the device, as weight_layout.h stores them: their words as f32
// values, or as pairs of bf16 ones.
//
// Integers become floats in two instructions for one or two values, exactly. Their bits are put
// under an exponent that makes the lowest of them worth 1. Then the surplus is subtracted.
#pragma once

#include "cuda/kernels/grouped_gemm/tiles.cuh"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

// 4 k of a word.
struct Int8Weight {
  static constexpr int kBlockBytes = 128;
  // k from a word of a unit to the next: four values for each 16
  static constexpr int kWordDepth = 16;

  // From the packed word beside the block: the block's scale, and that of word i of a unit.
  static SIMT_DEVICE float scale(uint32_t packed) { return __uint_as_float(packed); }
  static SIMT_DEVICE float word_scale(uint32_t packed, int) { return __uint_as_float(packed); }

  // The n-th four values, unscaled, k ascending: 2^23 + (q + 128), minus 2^23 + 128.
  static SIMT_DEVICE void widen(uint32_t word, int, float (&w)[4]) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const unsigned byte = e == 1 ? 2 : e == 2 ? 1 : static_cast<unsigned>(e);
      w[e] = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | byte)) - 8388736.0f;
    }
  }

  // Value k of a row's block.
  static SIMT_DEVICE float value(const unsigned char* block, uint32_t packed, int k) {
    const int byte = k / 64 * 64 + k / 4 % 4 * 16 + k / 16 % 4 * 4 + (k % 2 * 2 + k % 4 / 2);
    return static_cast<float>(static_cast<int>(block[byte]) - 128) * __uint_as_float(packed);
  }
};

// 8 k of a word: 4, and the 4 that come 16 later.
struct Int4Weight {
  static constexpr int kBlockBytes = 64;
  static constexpr int kWordDepth = 32;

  static SIMT_DEVICE float scale(uint32_t packed) { return __uint_as_float(packed & 0x7ff00000u); }
  // multiplier[j]: 2^(23 - 5 j) + (multiplier + 16), minus the same with 0.
  static SIMT_DEVICE float multiplier(uint32_t packed, int j) {
    const float offset = __uint_as_float((150u - 5u * static_cast<unsigned>(j)) << 23);
    return __uint_as_float((packed & 31u << (5 * j)) | __float_as_uint(offset)) - (offset + 16.0f);
  }
  static SIMT_DEVICE float word_scale(uint32_t packed, int j) {
    return multiplier(packed, j) * scale(packed);
  }

  // The same with (q + 8) 2^(4 i) under 2^(23 - 4 i), i < 4.
  static SIMT_DEVICE void widen(uint32_t word, int n, float (&w)[4]) {
    const uint32_t high = word >> 16;
#pragma unroll
    for (int e = 0; e < 4; e++) {
      const int nibble = 2 * n + e / 2;  // of the lower half with even k, else of the upper
      const float offset = __uint_as_float((150u - 4u * static_cast<unsigned>(nibble)) << 23);
      w[e] = __uint_as_float(((e % 2 == 0 ? word : high) & 15u << (4 * nibble)) |
                             __float_as_uint(offset)) -
             (offset + 8.0f);
    }
  }

  static SIMT_DEVICE float value(const unsigned char* block, uint32_t packed, int k) {
    const int nibble = k / 16 % 2 * 2 + k % 4 / 2 + k % 2 * 4;
    const int q = (block[k / 4 % 4 * 16 + k / 32 * 4 + nibble / 2] >> (nibble % 2 * 4) & 15) - 8;
    return static_cast<float>(q) * word_scale(packed, k / 32);
  }
};

// 4 k of a word. The bits of an e4m3 number, in a wider type, are the number by a power of 2.
struct Float8Weight {
  static constexpr int kBlockBytes = 128;
  static constexpr int kWordDepth = 16;

  static SIMT_DEVICE float scale(uint32_t packed) { return __uint_as_float(packed); }
  static SIMT_DEVICE float word_scale(uint32_t packed, int) { return __uint_as_float(packed); }

  // The number of the upper byte; the rest are 0.
  static SIMT_DEVICE float number(uint32_t upper) {
    const int bits = static_cast<int>(upper) >> 4;  // the sign is in four bits too many
    return __int_as_float(bits & static_cast<int>(0x87f00000u)) * 0x1p120f;
  }
  static SIMT_DEVICE void widen(uint32_t word, int, float (&w)[4]) {
#pragma unroll
    for (int e = 0; e < 4; e++)
      w[e] = number(__byte_perm(word, 0, 0x0444u | static_cast<unsigned>(e) << 12));
  }

  static SIMT_DEVICE float value(const unsigned char* block, uint32_t packed, int k) {
    const int byte = k / 64 * 64 + k / 4 % 4 * 16 + k / 16 % 4 * 4 + k % 4;
    return number(static_cast<uint32_t>(block[byte]) << 24) * __uint_as_float(packed);
  }
};

template <class Weight>
constexpr bool kIsQuantised =
    std::is_same_v<Weight, Int8Weight> || std::is_same_v<Weight, Int4Weight> ||
    std::is_same_v<Weight, Float8Weight>;

// Of one group: the rows' values, and the words with their scales.
template <class Weight>
struct QuantisedGroup {
  const unsigned char* values;  // [rows][row_bytes]
  const uint32_t* scales;       // [blocks][scale_rows]
  int row_bytes, scale_rows;

  SIMT_DEVICE QuantisedGroup(const void* weight, int64_t group, int rows, int pitch)
      : row_bytes(pitch / static_cast<int>(kQuantBlock) * Weight::kBlockBytes) {
    constexpr int kUnit = static_cast<int>(kScaleRows);
    scale_rows = (rows + kUnit - 1) / kUnit * kUnit;
    const int64_t bytes = static_cast<int64_t>(rows) * row_bytes;
    const int64_t words = static_cast<int64_t>(pitch / static_cast<int>(kQuantBlock)) * scale_rows;
    values = static_cast<const unsigned char*>(weight) + group * (bytes + words * 4);
    scales = reinterpret_cast<const uint32_t*>(values + bytes);
  }
  SIMT_DEVICE float value(int row, int k) const {
    constexpr int kBlock = static_cast<int>(kQuantBlock);
    const unsigned char* block =
        values + static_cast<int64_t>(row) * row_bytes + k / kBlock * Weight::kBlockBytes;
    return Weight::value(block, scales[static_cast<int64_t>(k / kBlock) * scale_rows + row],
                         k % kBlock);
  }
};

// Two neighbouring k of an int8 word, unscaled: the lower bytes of its halves. A bf16 from 128 on
// has steps of 1. With u = q + 128: 128 + u % 128, minus 256 or, from u = 128 on, minus 128.
SIMT_DEVICE uint32_t int8_pair(uint32_t word) {
  const uint32_t low = (word & 0x007f007fu) | 0x43004300u;
  const uint32_t minus = (word & 0x00800080u) ^ 0xc380c380u;
  return simt::fma_bf16x2(low, 0x3f803f80u, minus);
}

// The same of an int4 word, times a multiplier: the lower nibbles of its halves. (128 + (q + 8))
// times m, minus 136 m, is a multiple of 8 by 17 m, of at most 8 bits. multiplier and minus hold m
// and -136 m twice.
SIMT_DEVICE uint32_t int4_pair(uint32_t word, uint32_t multiplier, uint32_t minus) {
  return simt::fma_bf16x2((word & 0x000f000fu) | 0x43004300u, multiplier, minus);
}

// Two neighbouring k of a float8 word, unscaled: bytes 0 and 1, or 2 and 3. Their bits are those of
// a bf16 times 2^-120.
SIMT_DEVICE uint32_t float8_pair(uint32_t word, int half) {
  const uint32_t upper = __byte_perm(word, 0, half == 0 ? 0x1404u : 0x3424u);
  const uint32_t small = (upper >> 4 & 0x07f007f0u) | (upper & 0x80008000u);
  return simt::fma_bf16x2(small, 0x7b807b80u, 0x80008000u);
}

// A bf16, given as f32, twice.
SIMT_DEVICE uint32_t twice_bf16(float value) {
  return __byte_perm(__float_as_uint(value), 0, 0x3232);
}

}  // namespace moepp::cuda
