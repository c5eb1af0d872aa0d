// The numbers of int8 and int4 weights, the same on every device. Their place in memory is the
// device's affair.
//
// A row of a weight is cut into blocks of 128 consecutive k, the last padded with zeros. Scales are
// rounded to bf16 first, and the values are then quantised with the rounded scale, to nearest.
//   int8   w = q * scale, q in -127 .. 127, scale = bf16(max |w| / 127): one group of 128.
//   int4   w = q * (multiplier[j] * scale), q in -8 .. 7, j = k / 32 within the block: a group of
//          32 has the scale multiplier[j] * scale. multiplier is in 1 .. 15 or -15 .. -1: negative
//          where the group's largest value is positive, so that it may have the -8. scale has four
//          significant bits, so that this product is a bf16, too. scale and multipliers are those,
//          of a few candidates, whose squared error over the block is least.
// The four scales of an int4 block are multiples of one. So the block is an int8 block as well,
// exactly: its values are q * multiplier[j], within -120 .. 120. A dot product over 128 k stays in
// integers, whatever the weights' dtype. The relative error of normally distributed weights is
// 0.0825. Without a search and a sign it is 0.0969. With a free, signed bf16 scale for each 32, the
// best of 60, it is 0.0808.
//
// A block whose values are all below 2^-100 becomes zeros with scale 0. NaN and infinity cannot be
// quantised.
#pragma once

#include <cstdint>

namespace moepp {

// k of one scale: of weights, and of activations (cpu/kernels/quantised_rows.inl.h)
constexpr int64_t kQuantBlock = 128;
constexpr int64_t kInt4Group = 32;  // k of one int4 multiplier
constexpr int64_t kInt4Groups = kQuantBlock / kInt4Group;
constexpr float kSmallestQuantised = 0x1p-100f;
constexpr int64_t kMostQuantisedInputs = int64_t{1} << 24;  // k of a quantised weight: 1 to this

static inline int64_t quant_blocks(int64_t k) {
  return (k + kQuantBlock - 1) / kQuantBlock;
}

struct Int8Block {
  int8_t q[kQuantBlock];
  uint16_t scale;  // bf16
};

struct Int4Block {
  int8_t q[kQuantBlock];
  uint16_t scale;  // bf16
  int8_t multiplier[kInt4Groups];
};

// From 128 values. False, and *block unspecified, when one of them is NaN or infinite.
bool quantise_int8(const float* values, Int8Block* block);
bool quantise_int4(const float* values, Int4Block* block);

}  // namespace moepp
