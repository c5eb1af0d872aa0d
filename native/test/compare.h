// The one comparator of the native tests: NaN in the same places, then |actual - expected| <= a
// tolerance. It is computed from the roundoff, the length of the reduction and the operands'
// magnitude. No tolerance is tuned.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "tensor.h"

namespace moepp::test {

constexpr double kRoundoff = 0x1p-24;     // of f32, to nearest: half a unit in the last place of 1
constexpr double kBf16Roundoff = 0x1p-8;  // of bf16 likewise
constexpr double kSmallest = 0x1p-126;    // below it f32 loses relative precision

// Bound on the error of a sum of `terms` products in f32, in any order, whose absolute values add
// up to `magnitude`. Source: Higham, Accuracy and Stability of Numerical Algorithms, 3.1 (gamma_n).
inline double sum_error(int64_t terms, double magnitude) {
  const double n = static_cast<double>(terms + 1) * kRoundoff;
  return n / (1.0 - n) * magnitude + static_cast<double>(terms) * kSmallest * kRoundoff;
}

// The expected value of an element, and its greatest difference.
struct Bounded {
  double value = 0.0, tolerance = 0.0;
};

// Empty when `actual` is as expected; else what is wrong.
inline std::string difference(float actual, const Bounded& expected) {
  const double a = static_cast<double>(actual);
  if (std::isnan(a) && std::isnan(expected.value)) return {};
  if (a == expected.value || std::abs(a - expected.value) <= expected.tolerance) return {};
  char text[160];
  std::snprintf(text, sizeof text, "%.9g, expected %.9g +- %.3g", a, expected.value,
                expected.tolerance);
  return text;
}

// The same for n elements: the first that differs, and how many do.
inline std::string difference(const float* actual, const Bounded* expected, int64_t n) {
  std::string first;
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    const std::string text = difference(actual[i], expected[i]);
    if (text.empty()) continue;
    if (count++ == 0) first = "[" + std::to_string(i) + "] is " + text;
  }
  return count == 0
             ? std::string()
             : first + " (" + std::to_string(count) + " of " + std::to_string(n) + " differ)";
}
inline std::string difference(const float* actual, const std::vector<Bounded>& expected) {
  return difference(actual, expected.data(), static_cast<int64_t>(expected.size()));
}

// Bit for bit, NaNs included.
inline bool same_bits(const void* a, const void* b, size_t bytes) {
  return bytes == 0 || std::memcmp(a, b, bytes) == 0;
}

// n elements between two margins that no one may write. All of it starts as poison: for f32 a NaN.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t n)
      : n_(n), bytes_((2 * kMargin + static_cast<size_t>(n)) * sizeof(T), kPoison) {}
  T* data() { return reinterpret_cast<T*>(bytes_.data()) + kMargin; }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data()) + kMargin; }
  int64_t size() const { return n_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }

  bool margins_intact() const {
    return poisoned(-static_cast<int64_t>(kMargin), 0) &&
           poisoned(n_, n_ + static_cast<int64_t>(kMargin));
  }
  // True if elements [begin, end) were never written (or were written with poison).
  bool poisoned(int64_t begin, int64_t end) const {
    const auto* p = reinterpret_cast<const unsigned char*>(data() + begin);
    for (size_t i = 0; i < static_cast<size_t>(end - begin) * sizeof(T); i++) {
      if (p[i] != kPoison) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kMargin = 64;
  static constexpr unsigned char kPoison = 0xff;
  int64_t n_;
  std::vector<unsigned char> bytes_;
};

// Values of a fixed sequence, the same on every machine, with mean 0 and the given scale.
inline void fill(float* data, int64_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  for (int64_t i = 0; i < n; i++)
    data[i] = scale * (static_cast<float>(random()) * 0x1p-31f - 1.0f);
}

inline Tensor tensor(void* data, DType dtype, std::initializer_list<int64_t> shape,
                     Layout layout = Layout::kRows) {
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.layout = layout;
  for (int64_t size : shape) t.shape[t.rank++] = size;
  return t;
}

// The same tensor, but only its rows [row, row + count).
inline Tensor rows_of(Tensor all, int64_t row, int64_t count) {
  const int64_t elements = all.elements() / (all.shape[0] == 0 ? 1 : all.shape[0]);
  all.data = static_cast<char*>(all.data) + row * elements * dtype_size(all.dtype);
  all.shape[0] = count;
  return all;
}

}  // namespace moepp::test
