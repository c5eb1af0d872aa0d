#include "pack.h"

#include <algorithm>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace moepp::cpu {

// A panel is made of 32-bit words: one f32, or two consecutive k of one bf16 row. In words, packing
// is a transposition of [32 rows][words] to [words][32 rows]. of one row: four cache lines, which
// are read whole before the next row's
constexpr int64_t kBlockWords = 64;

#if defined(__SSE2__)
// 4 rows by 4 words.
static void transpose_4x4(const std::byte* const* rows, int64_t word, std::byte* target) {
  const auto load = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + 4 * word));
  };
  const auto store = [&](int64_t w, __m128i v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + w * kPanelRows * 4), v);
  };
  const __m128i a = load(0), b = load(1), c = load(2), d = load(3);
  const __m128i ab_low = _mm_unpacklo_epi32(a, b), cd_low = _mm_unpacklo_epi32(c, d);
  const __m128i ab_high = _mm_unpackhi_epi32(a, b), cd_high = _mm_unpackhi_epi32(c, d);
  store(word, _mm_unpacklo_epi64(ab_low, cd_low));
  store(word + 1, _mm_unpackhi_epi64(ab_low, cd_low));
  store(word + 2, _mm_unpacklo_epi64(ab_high, cd_high));
  store(word + 3, _mm_unpackhi_epi64(ab_high, cd_high));
}
#else
static void transpose_4x4(const std::byte* const* rows, int64_t word, std::byte* target) {
  for (int64_t w = word; w < word + 4; w++) {
    for (int64_t i = 0; i < 4; i++)
      std::memcpy(target + (w * kPanelRows + i) * 4, rows[i] + 4 * w, 4);
  }
}
#endif

// Words [0, words) of 32 rows, each row at any byte address.
static void transpose(const std::byte* const* rows, int64_t words, std::byte* target) {
  const int64_t whole = words / 4 * 4;
  for (int64_t begin = 0; begin < whole; begin += kBlockWords) {
    const int64_t end = std::min(begin + kBlockWords, whole);
    // 32 streams are more than a processor follows by itself: 8.5 GB/s of bf16 without this, per
    // core (AMD EPYC, Zen 5).
    if (end < whole) {
      for (int64_t i = 0; i < kPanelRows; i++) {
        for (int64_t word = end; word < end + kBlockWords; word += 16)
          __builtin_prefetch(rows[i] + 4 * word);
      }
    }
    for (int64_t i = 0; i < kPanelRows; i += 4) {
      for (int64_t word = begin; word < end; word += 4)
        transpose_4x4(rows + i, word, target + i * 4);
    }
  }
  for (int64_t word = whole; word < words; word++) {
    for (int64_t i = 0; i < kPanelRows; i++)
      std::memcpy(target + (word * kPanelRows + i) * 4, rows[i] + 4 * word, 4);
  }
}

static void write_words(std::byte (&words)[kQuantBlock], const Int8Block& block) {
  for (int64_t i = 0; i < kQuantBlock; i++) words[i] = static_cast<std::byte>(block.q[i] + 128);
}

// Bytes of the pairs of quads, in the lower half of `words`.
static void write_words(std::byte (&words)[kQuantBlock], const Int4Block& block) {
  for (int64_t pair = 0; pair < kQuantBlock / 8; pair++) {
    const bool mirrored = block.multiplier[pair * 8 / kInt4Group] < 0;
    for (int64_t i = 0; i < 4; i++) {
      const int8_t* q = block.q + pair * 8 + i;
      words[pair * 4 + i] = static_cast<std::byte>(mirrored ? (7 - q[0]) | (7 - q[4]) << 4
                                                            : (q[0] + 8) | (q[4] + 8) << 4);
    }
  }
}

static bool quantise(const float* values, Int8Block* block) {
  return quantise_int8(values, block);
}
static bool quantise(const float* values, Int4Block* block) {
  return quantise_int4(values, block);
}
// The scale of a lane, and what stands behind all scales; `scales` is the lane's place.
static void write_scale(std::byte* scales, const Int8Block& block) {
  std::memcpy(scales, &block.scale, 2);
}
static void write_scale(std::byte* scales, const Int4Block& block) {
  uint16_t flags = 0, multipliers = 0;
  for (int64_t j = 0; j < kInt4Groups; j++) {
    const int multiplier = block.multiplier[j];
    flags = static_cast<uint16_t>(flags | (multiplier < 0 ? 1 : 0) << j);
    multipliers =
        static_cast<uint16_t>(multipliers | (multiplier < 0 ? -multiplier : multiplier) << (4 * j));
  }
  flags |= block.scale;
  std::memcpy(scales, &flags, 2);
  std::memcpy(scales + 2 * kPanelRows, &multipliers, 2);
}

template <class Block>
static int64_t pack_quantised(std::byte* target, int64_t value_bytes, int64_t block_bytes,
                              const PackRow (&rows)[kPanelRows], int64_t k) {
  for (int64_t begin = 0; begin < k; begin += kQuantBlock, target += block_bytes) {
    const int64_t n = std::min(kQuantBlock, k - begin);
    std::byte words[kPanelRows][kQuantBlock];
    const std::byte* source[kPanelRows];
    for (int64_t i = 0; i < kPanelRows; i++) {
      float values[kQuantBlock] = {};
      Block block;
      auto* floats = reinterpret_cast<std::byte*>(values);
      if (!convert_row(rows[i], begin, n, DType::kF32, floats) || !quantise(values, &block))
        return i;
      write_words(words[i], block);
      source[i] = words[i];
      write_scale(target + value_bytes + 2 * i, block);
    }
    transpose(source, value_bytes / kPanelRows / 4, target);
  }
  return -1;
}

int64_t pack_panel(std::byte* target, DType dtype, const PackRow (&rows)[kPanelRows], int64_t k) {
  if (dtype == DType::kI8)
    return pack_quantised<Int8Block>(target, kInt8Values, kInt8BlockBytes, rows, k);
  if (dtype == DType::kI4)
    return pack_quantised<Int4Block>(target, kInt4Values, kInt4BlockBytes, rows, k);
  const int64_t per_word = 4 / dtype_size(dtype);
  const std::byte* source[kPanelRows];
  const bool in_place = std::all_of(rows, rows + kPanelRows, [&](const PackRow& row) {
    return row.data != nullptr && row.dtype == dtype && row.stride == 1;
  });
  int64_t done = 0;
  if (in_place) {
    for (int64_t i = 0; i < kPanelRows; i++) source[i] = rows[i].data;
    transpose(source, k / per_word, target);
    done = k / per_word * per_word;
  }
  // The rest, through a block of converted elements; past an odd k of bf16 stands a zero.
  constexpr int64_t kBlock = 128;
  std::byte block[kPanelRows][kBlock * 4];
  for (; done < k; done += kBlock) {
    const int64_t n = std::min(kBlock, k - done), words = (n + per_word - 1) / per_word;
    for (int64_t i = 0; i < kPanelRows; i++) {
      std::memset(block[i] + (words - 1) * 4, 0, 4);
      if (!convert_row(rows[i], done, n, dtype, block[i])) return i;
      source[i] = block[i];
    }
    transpose(source, words, target + done / per_word * kPanelRows * 4);
  }
  return -1;
}

}  // namespace moepp::cpu
