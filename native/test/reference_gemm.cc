#include "reference_gemm.h"

#include <algorithm>

#include "weights/float8.h"
#include "weights/panels.h"

namespace moepp::test {

// The panel and the place in it at which a row stands: the inverse of panel_row.
static void place_of(Layout layout, int64_t rows, int64_t row, int64_t* panel, int64_t* lane) {
  if (layout != Layout::kGateUp) {
    *panel = row / 32;
    *lane = row % 32;
    return;
  }
  const int64_t columns = rows / 2, column = row % columns;
  *panel = column / 16;
  *lane = column % 16 + (row < columns ? 0 : 16);
}

// One block of an int8 or int4 panel, as panels.h describes it.
class QuantisedBlock {
 public:
  QuantisedBlock(const char* panel, DType dtype, int64_t block)
      : int8_(dtype == DType::kI8),
        bytes_(reinterpret_cast<const unsigned char*>(panel) + block * (int8_ ? 4160 : 2176)),
        halves_(reinterpret_cast<const uint16_t*>(bytes_ + (int8_ ? 4096 : 2048))) {}

  double scale(int64_t lane) const {
    const int bits = halves_[lane];
    return static_cast<double>(bf16_to_f32(static_cast<uint16_t>(int8_ ? bits : bits - bits % 16)));
  }
  // In units of the scale; k within the block.
  int64_t value(int64_t lane, int64_t k) const {
    if (int8_) return bytes_[k / 4 * 128 + lane * 4 + k % 4] - 128;
    const int byte = bytes_[k / 8 * 128 + lane * 4 + k % 4],
              half = k % 8 < 4 ? byte % 16 : byte / 16;
    const bool seven = (halves_[lane] >> k / 32) % 2 != 0;
    return (half - (seven ? 7 : 8)) * ((halves_[32 + lane] >> (k / 32 * 4)) % 16);
  }

 private:
  const bool int8_;
  const unsigned char* bytes_;
  const uint16_t* halves_;
};

static double element_of(const char* panel, DType dtype, int64_t lane, int64_t k) {
  if (is_quantised(dtype)) {
    const QuantisedBlock block(panel, dtype, k / 128);
    return static_cast<double>(block.value(lane, k % 128)) * block.scale(lane);
  }
  const int64_t index = panel_index(panel_dtype(dtype), lane, k);
  if (panel_dtype(dtype) == DType::kF32)
    return static_cast<double>(reinterpret_cast<const float*>(panel)[index]);
  return static_cast<double>(bf16_to_f32(reinterpret_cast<const uint16_t*>(panel)[index]));
}

// The panel that holds a row, and the row's place in it.
static const char* panel_of(const Tensor& weight, int64_t group, int64_t row, int64_t* lane) {
  const int64_t rows = weight.shape[weight.rank - 2], count = weight.shape[weight.rank - 1];
  int64_t panel;
  place_of(weight.layout, rows, row, &panel, lane);
  return weight.as<char>() + (group * panel_count(weight.layout, rows) + panel) *
                                 panel_bytes(panel_dtype(weight.dtype), count);
}

double panel_element(const Tensor& weight, int64_t group, int64_t row, int64_t k) {
  int64_t lane;
  const char* panel = panel_of(weight, group, row, &lane);
  return element_of(panel, weight.dtype, lane, k);
}

QuantisedInputs quantise_inputs(const float* x, int64_t count) {
  QuantisedInputs block = {};
  float most = 0.0f;
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i])) return block.scale = std::nanf(""), block;
    most = std::fmax(most, std::fabs(x[i]));
  }
  if (most < 0x1p-100f) return block;
  const float inverse = 127.0f / most;
  block.scale = most / 127.0f;
  for (int64_t i = 0; i < count; i++)
    block.q[i] = static_cast<int64_t>(std::nearbyint(x[i] * inverse));
  return block;
}

// To nearest, ties to even: three bits of fraction, and no steps below 2^-9.
static double e4m3_of(double x) {
  const double step = std::ldexp(1.0, std::max(std::ilogb(x), -6) - 3);
  return x == 0.0 ? x
                  : std::copysign(std::min(std::abs(std::nearbyint(x / step) * step), 448.0), x);
}

Float8Inputs float8_inputs(const float* x, int64_t count) {
  Float8Inputs block = {};
  float most = 0.0f;
  for (int64_t i = 0; i < count; i++) {
    const float rounded = bf16_to_f32(f32_to_bf16(x[i]));
    if (!std::isfinite(rounded)) return block.scale = std::nanf(""), block;
    most = std::fmax(most, std::fabs(rounded));
  }
  if (most < 0x1p-100f) return block;
  const float inverse = 448.0f / most;
  block.scale = most / 448.0f;
  for (int64_t i = 0; i < count; i++) {
    const float scaled = bf16_to_f32(f32_to_bf16(x[i])) * inverse;
    block.number[i] = e4m3_of(static_cast<double>(scaled));
  }
  return block;
}

ProductReference::ProductReference(const Tensor& weight, Activation activation, Inputs inputs)
    : weight_(weight),
      rows_(weight.shape[weight.rank - 2]),
      k_(weight.shape[weight.rank - 1]),
      swiglu_(activation == Activation::kSwiglu),
      quantised_(is_quantised(weight.dtype) && inputs == Inputs::kQuantised),
      rounded_(inputs == Inputs::kRounded),
      float8_(inputs == Inputs::kFloat8) {}

Factors ProductReference::input(const float* x) const {
  Factors factors;
  for (int64_t k = 0; float8_ && k < k_; k += 128) {
    const int64_t count = std::min<int64_t>(128, k_ - k);
    const Float8Inputs block = float8_inputs(x + k, count);
    for (int64_t i = 0; i < count; i++)
      factors.values.push_back(block.number[i] * static_cast<double>(block.scale));
  }
  for (int64_t k = 0; !quantised_ && !float8_ && k < k_; k++)
    factors.values.push_back(static_cast<double>(rounded_ ? bf16_to_f32(f32_to_bf16(x[k])) : x[k]));
  for (int64_t k = 0; quantised_ && k < k_; k += 128) {
    const QuantisedInputs block = quantise_inputs(x + k, std::min<int64_t>(128, k_ - k));
    factors.values.insert(factors.values.end(), block.q, block.q + 128);
    factors.scales.push_back(static_cast<double>(block.scale));
  }
  return factors;
}

const Factors& ProductReference::weight_row(Kept& kept, int64_t group, int64_t row) {
  if (kept.group == group && kept.row == row) return kept.factors;
  kept = {group, row, {}};
  int64_t lane;
  const char* panel = panel_of(weight_, group, row, &lane);
  for (int64_t k = 0; !quantised_ && k < k_; k++)
    kept.factors.values.push_back(element_of(panel, weight_.dtype, lane, k));
  for (int64_t b = 0; quantised_ && b < (k_ + 127) / 128; b++) {
    const QuantisedBlock block(panel, weight_.dtype, b);
    for (int64_t k = 0; k < 128; k++)
      kept.factors.values.push_back(static_cast<double>(block.value(lane, k)));
    kept.factors.scales.push_back(block.scale(lane));
  }
  return kept.factors;
}

// Bound on what tensor cores lose of e4m3 products, in blocks of 128 with a sum each, 32 at once.
// PTX leaves it open. Hopper aligns them and the sum before to the largest, and cuts off what is
// past 14 bits (DeepSeek-V3, arXiv 2412.19437, 3.5.2). So does sm_89 (SageAttention2, arXiv
// 2411.10958: a sum has 13 bits of fraction). Each addend loses up to 2^-13 of the largest: 32
// products and, if in two steps, two sums and two results. Of sm_120 the same is assumed.
static double cut_off(const Factors& x, const Factors& weight) {
  const size_t count = x.values.size();
  double error = 0.0, sum = 0.0, largest = 0.0;
  for (size_t k = 0; k < count; k++) {
    const double product = x.values[k] * weight.values[k];
    if (k % 128 == 0) sum = 0.0;
    if (k % 32 == 0) largest = std::abs(sum);
    sum += product;
    largest = std::max({largest, std::abs(product), std::abs(sum)});
    if (k % 32 == 31 || k + 1 == count) error += 36 * 0x1p-13 * largest;
  }
  return error;
}

// scale * sum_k x[k] * weight[k]. Quantised, integers are summed exactly, block by block; the sums
// times the scales are added up in f32.
static Bounded dot(const Factors& x, const Factors& weight, double scale, bool float8) {
  const size_t count = x.values.size(), blocks = x.scales.size();
  double sum = 0.0, magnitude = 0.0;
  for (size_t k = 0; blocks == 0 && k < count; k++) {
    const double product = x.values[k] * weight.values[k];
    sum += product;
    magnitude += std::abs(product);
  }
  for (size_t b = 0; b < blocks; b++) {
    double integer = 0.0;
    for (size_t k = 128 * b; k < 128 * b + 128; k++) integer += x.values[k] * weight.values[k];
    const double product = integer * weight.scales[b] * x.scales[b];
    sum += product;
    magnitude += std::abs(product);
  }
  // the product of the scales and `scale` round, too
  const auto terms = static_cast<int64_t>(blocks == 0 ? count : blocks + 2);
  const double lost = float8 ? cut_off(x, weight) : 0.0;
  return {scale * sum, scale * (sum_error(terms, magnitude) + lost)};
}

// silu(gate) * up.
static Bounded swiglu(const Bounded& gate, const Bounded& up) {
  const double silu = gate.value / (1.0 + std::exp(-gate.value));
  // |silu'| <= 1.1. exp 2 units, its argument none (negation), 1 +, /, and the product: 8
  // roundoffs. The kernel's exp stops at e^88, below which silu is g / e^88 instead of less.
  const double silu_error =
      1.1 * gate.tolerance + 8.0 * kRoundoff * std::abs(silu) + std::abs(gate.value) * 0x1p-126;
  return {silu * up.value, silu_error * (std::abs(up.value) + up.tolerance) +
                               std::abs(silu) * up.tolerance + kSmallest};
}

Bounded ProductReference::element(const Factors& x, int64_t group, int64_t n, double scale) {
  const Bounded gate = dot(x, weight_row(gate_, group, n), scale, float8_);
  if (!swiglu_) return gate;
  return swiglu(gate, dot(x, weight_row(up_, group, rows_ / 2 + n), scale, float8_));
}

std::string ProductReference::check(const Tensor& out, const std::vector<int64_t>& rows,
                                    const std::vector<int64_t>& columns, double scale,
                                    const std::function<Row(int64_t)>& row,
                                    const std::function<Bounded(const Bounded&, int64_t)>& finish) {
  std::vector<Factors> inputs;
  for (const int64_t r : rows) inputs.push_back(input(row(r).x));
  for (const int64_t n : columns) {
    for (size_t i = 0; i < rows.size(); i++) {
      const int64_t r = rows[i];
      const Bounded g = element(inputs[i], row(r).group, n, scale);
      const std::string text = difference(out.f32()[r * out.shape[out.rank - 1] + n], finish(g, n));
      if (!text.empty()) return "[" + std::to_string(r) + ", " + std::to_string(n) + "] is " + text;
    }
  }
  return {};
}

std::vector<int64_t> sample(int64_t n, int64_t count) {
  std::vector<int64_t> indices;
  if (n <= count) count = n;
  for (int64_t i = 0; i < count; i++) indices.push_back(count > 1 ? i * (n - 1) / (count - 1) : 0);
  return indices;
}

// Every value that a panel may hold is drawn; the largest weights are about `scale`.
static void fill_quantised(unsigned char* panel, DType dtype, Layout layout,
                           int64_t panels_of_group, int64_t p, int64_t rows, int64_t k,
                           uint32_t* state, float scale) {
  const auto next = [&](uint32_t n) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
  };
  const bool int8 = dtype == DType::kI8;
  for (int64_t b = 0; b < (k + 127) / 128; b++, panel += int8 ? 4160 : 2176) {
    uint16_t* scales = reinterpret_cast<uint16_t*>(panel + (int8 ? 4096 : 2048));
    std::memset(panel, 0, int8 ? 4160 : 2176);
    for (int64_t lane = 0; lane < 32; lane++) {
      const bool real = panel_row(layout, rows, p % panels_of_group, lane) >= 0;
      uint16_t bits =
          real ? f32_to_bf16(scale / 127.0f * (0.5f + static_cast<float>(next(512)) / 1024.0f))
               : uint16_t{0};
      if (!int8) {
        bits = static_cast<uint16_t>((bits & 0xfff0u) | (real ? next(16) : 0u));
        for (int j = 0; j < 4; j++)
          scales[32 + lane] =
              static_cast<uint16_t>(scales[32 + lane] << 4 | (1 + (real ? next(15) : 0)));
      }
      scales[lane] = bits;
      for (int64_t i = 0; i < 128; i++) {
        const bool used = real && b * 128 + i < k;
        if (int8) {
          panel[i / 4 * 128 + lane * 4 + i % 4] =
              static_cast<unsigned char>(used ? 1 + next(255) : 128);
        } else {
          const uint32_t zero = 8 - (bits >> i / 32 & 1u);
          unsigned char& byte = panel[i / 8 * 128 + lane * 4 + i % 4];
          byte = static_cast<unsigned char>(byte | (used ? next(16) : zero) << (i % 8 < 4 ? 0 : 4));
        }
      }
    }
  }
}

// Every number that e4m3 has is drawn, and of each row and block the largest.
static void fill_float8(float* panel, Layout layout, int64_t panels_of_group, int64_t p,
                        int64_t rows, int64_t k, uint32_t* state, float scale) {
  const auto next = [&](uint32_t n) {
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
  };
  for (int64_t lane = 0; lane < 32; lane++) {
    const bool real = panel_row(layout, rows, p % panels_of_group, lane) >= 0;
    for (int64_t begin = 0; begin < k; begin += 128) {
      const int64_t end = std::min(begin + 128, k),
                    largest = begin + next(static_cast<uint32_t>(end - begin));
      const float unit = bf16_to_f32(
          f32_to_bf16(scale / 448.0f * (0.5f + static_cast<float>(next(512)) / 1024.0f)));
      for (int64_t at = begin; at < end; at++) {
        const uint32_t code = at == largest ? 0x7e | next(2) << 7 : next(127) | next(2) << 7;
        panel[panel_index(DType::kF32, lane, at)] =
            real ? e4m3_to_f32(static_cast<uint8_t>(code)) * unit : 0.0f;
      }
    }
  }
}

void fill_panels(void* dst, DType dtype, Layout layout, int64_t groups, int64_t rows, int64_t k,
                 uint32_t seed, float scale) {
  uint32_t state = seed * 2654435761u + 1u;
  char* panel = static_cast<char*>(dst);
  for (int64_t p = 0; p < groups * panel_count(layout, rows);
       p++, panel += panel_bytes(panel_dtype(dtype), k)) {
    if (dtype == DType::kF8) {
      fill_float8(reinterpret_cast<float*>(panel), layout, panel_count(layout, rows), p, rows, k,
                  &state, scale);
      continue;
    }
    if (is_quantised(dtype)) {
      fill_quantised(reinterpret_cast<unsigned char*>(panel), dtype, layout,
                     panel_count(layout, rows), p, rows, k, &state, scale);
      continue;
    }
    for (int64_t at = 0; at < (dtype == DType::kF32 ? k : (k + 1) / 2 * 2); at++) {
      for (int64_t lane = 0; lane < 32; lane++) {
        state = state * 1664525u + 1013904223u;
        const bool real =
            at < k && panel_row(layout, rows, p % panel_count(layout, rows), lane) >= 0;
        const float value =
            real ? scale * (static_cast<float>(state >> 8) * 0x1p-23f - 1.0f) : 0.0f;
        const int64_t index = panel_index(dtype, lane, at);
        if (dtype == DType::kF32) {
          reinterpret_cast<float*>(panel)[index] = value;
        } else {
          reinterpret_cast<uint16_t*>(panel)[index] = f32_to_bf16(value);
        }
      }
    }
  }
}

}  // namespace moepp::test
