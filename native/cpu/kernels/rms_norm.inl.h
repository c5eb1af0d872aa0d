#pragma once
#include "rows.inl.h"

// Sum of squares of one row, filled by each vector of the row in turn. Two accumulators, since an
// add takes longer than a load.
struct SumOfSquares {
  Vf even = set1(0.0f), odd = set1(0.0f);
  void add(Vf a, Vf b) {
    even = fma(a, a, even);
    odd = fma(b, b, odd);
  }
  void add(Vf a) { even = fma(a, a, even); }
  float inverse_rms(int64_t h, float eps) const {
    return 1.0f / __builtin_sqrtf(sum(even + odd) / static_cast<float>(h) + eps);
  }
};

// out = x * scale * weight; out may be x.
inline void scale_row(const float* x, float scale, const float* weight, float* out, int64_t h) {
  const Vf s = set1(scale);
  int64_t i = 0;
  for (; i + kLanes <= h; i += kLanes) store(out + i, load(x + i) * s * load(weight + i));
  const int n = static_cast<int>(h - i);
  store_n(out + i, load_n(x + i, n) * s * load_n(weight + i, n), n);
}

// The rows [first, last).
inline void norm_rows(const RmsNormArgs& args, int64_t first, int64_t last) {
  const int64_t h = args.x->shape[1];
  const bool added = args.delta != nullptr;
  for (int64_t t = first; t < last; t++) {
    const float* x = args.x->f32() + t * h;
    const float* delta = added ? args.delta->f32() + t * h : nullptr;
    float* out = args.out->f32() + t * h;
    // The row of sums is read again below: it stays in out when it is not wanted elsewhere.
    float* row = args.sum != nullptr ? args.sum->f32() + t * h : out;
    SumOfSquares squares;
    int64_t i = 0;
    for (; i + 2 * kLanes <= h; i += 2 * kLanes) {
      Vf a = load(x + i), b = load(x + i + kLanes);
      if (added) a = a + load(delta + i), b = b + load(delta + i + kLanes);
      store(row + i, a);
      store(row + i + kLanes, b);
      squares.add(a, b);
    }
    for (; i < h; i += kLanes) {
      const int n = h - i < kLanes ? static_cast<int>(h - i) : kLanes;
      const Vf a = added ? load_n(x + i, n) + load_n(delta + i, n) : load_n(x + i, n);
      store_n(row + i, a, n);
      squares.add(a);
    }
    scale_row(row, squares.inverse_rms(h, args.eps), args.weight->f32(), out, h);
  }
}

inline void rms_norm(const RmsNormArgs& args, Queue& queue) {
  const int64_t h = args.x->shape[1];
  for_row_blocks(queue, args.x->shape[0], (args.delta != nullptr ? 20 : 12) * h,
                 [&](int64_t first, int64_t last) { norm_rows(args, first, last); });
}
