#include "reference_gemm.h"

#include <algorithm>

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
  const int64_t index = panel_index(dtype, lane, k);
  if (dtype == DType::kF32)
    return static_cast<double>(reinterpret_cast<const float*>(panel)[index]);
  return static_cast<double>(bf16_to_f32(reinterpret_cast<const uint16_t*>(panel)[index]));
}

double panel_element(const Tensor& weight, int64_t group, int64_t row, int64_t k) {
  const int64_t rows = weight.shape[weight.rank - 2], count = weight.shape[weight.rank - 1];
  int64_t panel, lane;
  place_of(weight.layout, rows, row, &panel, &lane);
  const int64_t at = group * panel_count(weight.layout, rows) + panel;
  return element_of(weight.as<char>() + at * panel_bytes(weight.dtype, count), weight.dtype, lane,
                    k);
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

// The same for int8 and int4 weights: blocks of exact integer sums, times the scales, added up in
// f32.
static Bounded quantised_dot(const float* x, const Tensor& weight, int64_t group, int64_t row,
                             double scale) {
  const int64_t rows = weight.shape[weight.rank - 2], count = weight.shape[weight.rank - 1],
                blocks = (count + 127) / 128;
  int64_t panel, lane;
  place_of(weight.layout, rows, row, &panel, &lane);
  const char* at = weight.as<char>() + (group * panel_count(weight.layout, rows) + panel) *
                                           panel_bytes(weight.dtype, count);
  double sum = 0.0, magnitude = 0.0;
  for (int64_t b = 0; b < blocks; b++) {
    const QuantisedBlock block(at, weight.dtype, b);
    const QuantisedInputs inputs =
        quantise_inputs(x + b * 128, std::min<int64_t>(128, count - b * 128));
    int64_t integer = 0;
    for (int64_t k = 0; k < 128; k++) integer += inputs.q[k] * block.value(lane, k);
    const double product =
        static_cast<double>(integer) * block.scale(lane) * static_cast<double>(inputs.scale);
    sum += product;
    magnitude += std::abs(product);
  }
  // the product of the scales and `scale` round, too
  return {scale * sum, scale * sum_error(blocks + 2, magnitude)};
}

// scale * sum_k x[k] * weight[row][k].
static Bounded dot(const float* x, const Tensor& weight, int64_t group, int64_t row, double scale,
                   Inputs inputs) {
  if (is_quantised(weight.dtype) && inputs == Inputs::kQuantised)
    return quantised_dot(x, weight, group, row, scale);
  const int64_t count = weight.shape[weight.rank - 1];
  double sum = 0.0, magnitude = 0.0;
  for (int64_t k = 0; k < count; k++) {
    const float input = inputs == Inputs::kRounded ? bf16_to_f32(f32_to_bf16(x[k])) : x[k];
    const double product = static_cast<double>(input) * panel_element(weight, group, row, k);
    sum += product;
    magnitude += std::abs(product);
  }
  return {scale * sum, scale * sum_error(count, magnitude)};
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

Bounded linear_element(const LinearArgs& args, int64_t t, int64_t n, Inputs inputs) {
  const Tensor& weight = *args.weight;
  const float* x = args.x->f32() + t * args.x->shape[1];
  Bounded sum = dot(x, weight, 0, n, 1.0, inputs);
  if (args.activation == Activation::kSwiglu)
    return swiglu(sum, dot(x, weight, 0, weight.shape[0] / 2 + n, 1.0, inputs));
  if (args.bias != nullptr) {
    sum.value += static_cast<double>(args.bias->f32()[n]);
    sum.tolerance += kRoundoff * (std::abs(sum.value) + sum.tolerance);
  }
  if (args.activation == Activation::kNone) return sum;
  // |tanh'| <= 1; the function itself is good to two units in the last place.
  const double value = std::tanh(sum.value);
  return {value, sum.tolerance + 4.0 * kRoundoff * std::abs(value)};
}

Bounded grouped_gemm_element(const GroupedGemmArgs& args, int64_t r, int64_t n, Inputs inputs) {
  const Tensor& weight = *args.weight;
  int64_t group = 0;
  while (args.expert_offsets->i32()[group + 1] <= r) group++;
  const int64_t row =
      args.token_order != nullptr ? args.token_order->i32()[r] / args.token_order->shape[1] : r;
  const float* x = args.x->f32() + row * weight.shape[2];
  const double scale = static_cast<double>(args.input_scale);
  const Bounded gate = dot(x, weight, group, n, scale, inputs);
  if (args.activation == Activation::kNone) return gate;
  return swiglu(gate, dot(x, weight, group, weight.shape[1] / 2 + n, scale, inputs));
}

template <class Element>
static std::string check(const float* out, int64_t stride, const std::vector<int64_t>& rows,
                         const std::vector<int64_t>& columns, const Element& element) {
  for (int64_t r : rows) {
    for (int64_t n : columns) {
      const std::string text = difference(out[r * stride + n], element(r, n));
      if (!text.empty()) return "[" + std::to_string(r) + ", " + std::to_string(n) + "] is " + text;
    }
  }
  return {};
}

std::string check_linear(const LinearArgs& args, const std::vector<int64_t>& rows,
                         const std::vector<int64_t>& columns, Inputs inputs) {
  return check(args.out->f32(), args.out->shape[1], rows, columns,
               [&](int64_t t, int64_t n) { return linear_element(args, t, n, inputs); });
}

std::string check_grouped_gemm(const GroupedGemmArgs& args, const std::vector<int64_t>& rows,
                               const std::vector<int64_t>& columns, Inputs inputs) {
  return check(args.out->f32(), args.out->shape[args.out->rank - 1], rows, columns,
               [&](int64_t r, int64_t n) { return grouped_gemm_element(args, r, n, inputs); });
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

void fill_panels(void* dst, DType dtype, Layout layout, int64_t groups, int64_t rows, int64_t k,
                 uint32_t seed, float scale) {
  uint32_t state = seed * 2654435761u + 1u;
  char* panel = static_cast<char*>(dst);
  for (int64_t p = 0; p < groups * panel_count(layout, rows); p++, panel += panel_bytes(dtype, k)) {
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
