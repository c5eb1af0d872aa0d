#include "quantise.h"

#include <cmath>

#include "tensor.h"

namespace moepp {

// Sums and maxima go through 16 lanes, and the lanes are added in a fixed order: compilers make vectors of the loops, and the
// choice among candidates is the same everywhere.
constexpr int64_t kLanes = 16;

// To nearest, ties to even, for |x| < 2^22: 1.5 * 2^23 pushes the fraction out.
static inline float round_to_integer(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}

static inline float bounded(float x, float low, float high) {
  x = x < high ? x : high;
  return x > low ? x : low;
}

// max |values|; NaN when one of them is NaN or infinite.
static float largest(const float* values, int64_t n) {
  float high[kLanes] = {}, poison[kLanes] = {};
  for (int64_t i = 0; i < n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; j++) {
      const float x = std::fabs(values[i + j]);
      high[j] = high[j] > x ? high[j] : x;
      poison[j] += x - x;  // 0, or NaN
    }
  }
  float result = 0.0f;
  for (int64_t j = 0; j < kLanes; j++) {
    result = result > high[j] ? result : high[j];
    if (poison[j] != 0.0f) return poison[j];
  }
  return result;
}

static void quantise(const float* values, int64_t n, float scale, float low, float high, int8_t* q) {
  const float inverse = 1.0f / scale;
  for (int64_t i = 0; i < n; i++)
    q[i] = static_cast<int8_t>(static_cast<int32_t>(bounded(round_to_integer(values[i] * inverse), low, high)));
}

bool quantise_int8(const float* values, Int8Block* block) {
  const float most = largest(values, kQuantBlock);
  if (most != most) return false;
  *block = {};
  if (most < kSmallestQuantised) return true;
  block->scale = f32_to_bf16(most / 127.0f);
  quantise(values, kQuantBlock, bf16_to_f32(block->scale), -127.0f, 127.0f, block->q);
  return true;
}

// The squared error of a group of 32 at a scale.
static inline float squared_error(const float* values, float scale) {
  const float inverse = 1.0f / scale;
  float error[kLanes];
  for (int64_t j = 0; j < kLanes; j++) error[j] = 0.0f;
  for (int64_t i = 0; i < kInt4Group; i += kLanes) {
    for (int64_t j = 0; j < kLanes; j++) {
      const float q = bounded(round_to_integer(values[i + j] * inverse), -8.0f, 7.0f), rest = values[i + j] - q * scale;
      error[j] += rest * rest;
    }
  }
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; j++) error[j] += error[j + width];
  }
  return error[0];
}

// A group of 32 whose largest value, in magnitude, is negative.
struct Int4Candidate {
  float values[kInt4Group];
  bool mirrored;  // the values are those of the weight times -1
  float most;     // of |values|
};

// The multiplier with the least error, and that error: of scales from the largest value / kWidest, down to kNarrowest of it.
constexpr float kWidest = 7.3f, kNarrowest = 0.75f;
static int best_multiplier(const Int4Candidate& group, float scale, float* error) {
  const float widest = group.most / kWidest / scale;
  const int high = widest > 14.0f ? 15 : static_cast<int>(widest) + 1, low = static_cast<int>(kNarrowest * widest);
  int best = high;
  *error = squared_error(group.values, static_cast<float>(high) * scale);
  for (int m = high - 1; m >= low && m >= 1; m--) {
    const float candidate = squared_error(group.values, static_cast<float>(m) * scale);
    if (candidate < *error) {
      *error = candidate;
      best = m;
    }
  }
  return best;
}

// The next value with four significant bits at or above x > 0, and the one below such a value: the low 20 bits of the f32 are 0.
static float four_bits_above(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits = (bits + 0xfffffu) & ~0xfffffu;
  std::memcpy(&x, &bits, 4);
  return x;
}
static float four_bits_below(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  bits -= 0x100000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

// False when a value is not finite.
static bool prepare(const float* values, Int4Candidate* group) {
  group->most = largest(values, kInt4Group);
  if (group->most != group->most) return false;
  float low = 0.0f;
  for (int64_t i = 0; i < kInt4Group; i++) low = low < values[i] ? low : values[i];
  group->mirrored = -low < group->most;
  const float sign = group->mirrored ? -1.0f : 1.0f;
  for (int64_t i = 0; i < kInt4Group; i++) group->values[i] = sign * values[i];
  return true;
}

bool quantise_int4(const float* values, Int4Block* block) {
  Int4Candidate groups[kInt4Groups];
  float most = 0.0f;
  for (int64_t j = 0; j < kInt4Groups; j++) {
    if (!prepare(values + j * kInt4Group, &groups[j])) return false;
    most = most > groups[j].most ? most : groups[j].most;
  }
  *block = {};
  int best[kInt4Groups] = {1, 1, 1, 1};
  if (most >= kSmallestQuantised) {
    // From the least scale at which the widest group fits, two steps of 7 to 12 % down.
    constexpr int kScales = 3;
    float scale = four_bits_above(most / kWidest / 15.0f), chosen = scale, least = HUGE_VALF;
    for (int i = 0; i < kScales; i++, scale = four_bits_below(scale)) {
      int multiplier[kInt4Groups];
      float total = 0.0f;
      for (int64_t j = 0; j < kInt4Groups; j++) {
        float error;
        multiplier[j] = best_multiplier(groups[j], scale, &error);
        total += error;
      }
      if (i > 0 && !(total < least)) continue;
      least = total;
      chosen = scale;
      std::memcpy(best, multiplier, sizeof best);
    }
    block->scale = f32_to_bf16(chosen);
    for (int64_t j = 0; j < kInt4Groups; j++) {
      quantise(groups[j].values, kInt4Group, static_cast<float>(best[j]) * chosen, -8.0f, 7.0f, block->q + j * kInt4Group);
    }
  }
  for (int64_t j = 0; j < kInt4Groups; j++) block->multiplier[j] = static_cast<int8_t>(groups[j].mirrored ? -best[j] : best[j]);
  return true;
}

}  // namespace moepp
