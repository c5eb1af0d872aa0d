// Products of 8-bit integers summed in 32 bits, for the quantised GEMM
// (kernels/quantised_gemm.inl.h); included after simd.h, which includes each set's instructions
// (simd/<set>.h).
//
// A vector of words covers kLanes rows of a weight and four k of each (panels.h): bytes q + 128 of
// int8, or halves of bytes.
//   Weights         such a vector, made ready for dot()
//   Inputs          four k of one row of activations, signed bytes within -127 .. 127, the same for
//                   all lanes
//   dot             sums + products of four bytes and four bytes, in every lane; nothing saturates.
//                   Where kBiasedWeights says so, the weights' bytes are unsigned, q + 128; else
//                   they are q. The caller takes the excess, 128 * sum of the inputs, off
//                   beforehand.
//   prepare_halves  prepare() for weights that are small and not biased: the halves of int4's bytes
//   load_pairs_16   kLanes values, each in both halves of its lane
//   store_int8      the integers of kLanes floats within -128 .. 127
//   exact_fma       a product and a sum rounded once, on every set: the scalar set's own fma rounds
//                   twice
// All sets give the same integers. Without an instruction for it, bytes are widened to 16 bits and
// multiplied in pairs: maddubs, which takes bytes, would saturate (2 * 255 * 127 > 32767). vpdpbusd
// stands as assembly: with the intrinsic, g++ 12 copies the sums of a tile through memory.
#pragma once

// Makes int8 words of the halves of int4's, two bytes at a time: (half - zero) * multiplier + 128 =
// half * multiplier + offset. No product or sum exceeds a byte.
struct Int4Scales {
  Words flags, multipliers;  // panels.h, each in both halves of its lane
};
struct Int4Scale {
  Words multiplier, offset;
};
inline Int4Scales load_int4_scales(const uint16_t* scales) {
  return {load_pairs_16(scales), load_pairs_16(scales + kPanelRows)};
}
inline Int4Scale int4_scale(Int4Scales scales, int group) {
  const Words multiplier = and_words(shift_right_16(scales.multipliers, 4 * group), set_16(15));
  const Words flag = and_words(shift_right_16(scales.flags, group), set_16(1));
  // 257 puts a value in both bytes: offset = 128 + (flag - 8) * multiplier.
  const Words zero = multiply_add_16(flag, set_16(257), set_16(-8 * 257));
  return {multiplier, multiply_add_16(multiplier, zero, set_16(128 * 257))};
}
inline Words int4_words(Words halves, Int4Scale scale) {
  return multiply_add_16(halves, scale.multiplier, scale.offset);
}

// The same of the sums of a group of 32 k: multiplier * (sum of half * x - zero * (sum of x)). The
// value in the parentheses is at most 32 * 8 * 127: 16 bits with the sign.
struct Int4GroupScale {
  Sums multiplier, minus_zero;  // in the lower halves, and the upper are 0
};
inline Int4GroupScale int4_group_scale(Int4Scales scales, int group) {
  const Words multipliers = shift_right_16(scales.multipliers, 4 * group),
              flags = shift_right_16(scales.flags, group);
  return {low_bits(multipliers, 15),
          add_product_16(set_sums(0xfff8), low_bits(flags, 1), set_sums(1))};  // -8, or -7
}
inline Sums int4_sums(Sums total, Int4GroupScale scale, Sums halves, Sums inputs) {
  return add_product_16(total, add_product_16(halves, inputs, scale.minus_zero), scale.multiplier);
}
