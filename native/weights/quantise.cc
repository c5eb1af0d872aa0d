#include "quantise.h"

#include <cmath>

#include "tensor.h"

namespace moepp {

// Four values at once, on every processor, and sums in one fixed order: the choice among candidates
// is the same everywhere.
typedef float Four __attribute__((vector_size(16)));
constexpr int64_t kFours = kInt4Group / 4;

static inline Four four(float x) {
  return Four{x, x, x, x};
}
static inline Four load(const float* p) {
  Four x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
static inline Four least(Four a, Four b) {
  return a < b ? a : b;
}
static inline Four most(Four a, Four b) {
  return a > b ? a : b;
}
static inline float sum(Four x) {
  return (x[0] + x[2]) + (x[1] + x[3]);
}

// To nearest, ties to even, for |x| < 2^22: 1.5 * 2^23 pushes the fraction out.
static inline Four round_to_integer(Four x) {
  return (x + four(12582912.0f)) - four(12582912.0f);
}

static inline Four bounded(Four x, float low, float high) {
  return most(least(x, four(high)), four(low));
}

// The least and the largest of 32 values and 0; both NaN when one of them is NaN or infinite.
struct Range {
  float low, high;
  float most() const { return -low > high ? -low : high; }
};
static Range range_of(const float* values) {
  Four low = four(0.0f), high = four(0.0f), poison = four(0.0f);
  for (int64_t i = 0; i < kFours; i++) {
    const Four x = load(values + 4 * i);
    low = least(low, x);
    high = most(high, x);
    poison += x - x;  // 0, or NaN
  }
  const float broken = sum(poison);
  Range range = {0.0f, 0.0f};
  for (int i = 0; i < 4; i++) {
    range.low = range.low < low[i] ? range.low : low[i];
    range.high = range.high > high[i] ? range.high : high[i];
  }
  return broken == 0.0f ? range : Range{broken, broken};
}

// A group of 32.
static void quantise(const float* values, float scale, float low, float high, int8_t* q) {
  const Four inverse = four(1.0f / scale);
  for (int64_t i = 0; i < kFours; i++) {
    const Four rounded = bounded(round_to_integer(load(values + 4 * i) * inverse), low, high);
    for (int j = 0; j < 4; j++)
      q[4 * i + j] = static_cast<int8_t>(static_cast<int32_t>(rounded[j]));
  }
}

bool quantise_int8(const float* values, Int8Block* block) {
  float all = 0.0f;
  for (int64_t i = 0; i < kQuantBlock; i += kInt4Group) {
    const Range range = range_of(values + i);
    if (range.low != range.low) return false;
    all = all > range.most() ? all : range.most();
  }
  *block = {};
  if (all < kSmallestQuantised) return true;
  block->scale = f32_to_bf16(all / 127.0f);
  for (int64_t i = 0; i < kQuantBlock; i += kInt4Group)
    quantise(values + i, bf16_to_f32(block->scale), -127.0f, 127.0f, block->q + i);
  return true;
}

// The squared error of a group of 32 at a scale.
static inline float squared_error(const float* values, float scale) {
  const Four inverse = four(1.0f / scale), step = four(scale);
  Four even = four(0.0f), odd = four(0.0f);
  for (int64_t i = 0; i < kFours; i += 2) {
    const Four x = load(values + 4 * i), y = load(values + 4 * i + 4);
    const Four x_rest = x - bounded(round_to_integer(x * inverse), -8.0f, 7.0f) * step;
    const Four y_rest = y - bounded(round_to_integer(y * inverse), -8.0f, 7.0f) * step;
    even += x_rest * x_rest;
    odd += y_rest * y_rest;
  }
  return sum(even + odd);
}

// A group of 32 whose largest value, in magnitude, is negative.
struct Int4Candidate {
  float values[kInt4Group];
  bool mirrored;  // the values are those of the weight times -1
  float most;     // of |values|
};

// The multiplier with the least error, and that error. The candidates are those from the largest
// value / kWidest down, whose scales reach 0.73 of that. The first of equal ones wins. Branchless:
// the winner is unpredictable.
constexpr float kWidest = 7.3f;
constexpr int kMultipliers = 5;
static inline int best_multiplier(const Int4Candidate& group, float scale, float* error) {
  const float widest = group.most / kWidest / scale;
  const int high = widest > 14.0f ? 15 : static_cast<int>(widest) + 1;
  float errors[kMultipliers];
  for (int i = 0; i < kMultipliers; i++) {
    errors[i] = squared_error(group.values, static_cast<float>(high > i ? high - i : 1) * scale);
  }
  int best = 0;
  *error = errors[0];
  for (int i = 1; i < kMultipliers; i++) {
    best = errors[i] < *error ? i : best;
    *error = errors[i] < *error ? errors[i] : *error;
  }
  return high > best ? high - best : 1;
}

// The next value with four significant bits at or above x > 0, and the one below such a value. The
// low 20 bits of their f32 are 0.
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
  const Range range = range_of(values);
  if (range.low != range.low) return false;
  group->most = range.most();
  group->mirrored = -range.low < range.high;
  const float sign = group->mirrored ? -1.0f : 1.0f;
  for (int64_t i = 0; i < kInt4Group; i++) group->values[i] = sign * values[i];
  return true;
}

bool quantise_int4(const float* values, Int4Block* block) {
  Int4Candidate groups[kInt4Groups];
  float all = 0.0f;
  for (int64_t j = 0; j < kInt4Groups; j++) {
    if (!prepare(values + j * kInt4Group, &groups[j])) return false;
    all = all > groups[j].most ? all : groups[j].most;
  }
  *block = {};
  int best[kInt4Groups] = {1, 1, 1, 1};
  if (all >= kSmallestQuantised) {
    // The least scale at which the widest group fits, and the one 7 to 12 % below. A third gains
    // 0.2 % and costs 40 % more.
    constexpr int kScales = 2;
    float scale = four_bits_above(all / kWidest / 15.0f), chosen = scale, smallest = HUGE_VALF;
    for (int i = 0; i < kScales; i++, scale = four_bits_below(scale)) {
      int multiplier[kInt4Groups];
      float total = 0.0f;
      for (int64_t j = 0; j < kInt4Groups; j++) {
        float error;
        multiplier[j] = best_multiplier(groups[j], scale, &error);
        total += error;
      }
      if (i > 0 && !(total < smallest)) continue;
      smallest = total;
      chosen = scale;
      std::memcpy(best, multiplier, sizeof best);
    }
    block->scale = f32_to_bf16(chosen);
    for (int64_t j = 0; j < kInt4Groups; j++) {
      quantise(groups[j].values, static_cast<float>(best[j]) * chosen, -8.0f, 7.0f,
               block->q + j * kInt4Group);
    }
  }
  for (int64_t j = 0; j < kInt4Groups; j++)
    block->multiplier[j] = static_cast<int8_t>(groups[j].mirrored ? -best[j] : best[j]);
  return true;
}

}  // namespace moepp
