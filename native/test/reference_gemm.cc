#include "reference_gemm.h"

#include "cpu/panels.h"

namespace moepp::test {

using cpu::panel_bytes;
using cpu::panel_count;

// The panel and the place in it at which a row stands: the inverse of panel_row.
static void place_of(Layout layout, int64_t rows, int64_t row, int64_t* panel, int64_t* lane) {
  if (layout != Layout::kGateUpPanels) {
    *panel = row / 32;
    *lane = row % 32;
    return;
  }
  const int64_t columns = rows / 2, column = row % columns;
  *panel = column / 16;
  *lane = column % 16 + (row < columns ? 0 : 16);
}

static double element_of(const char* panel, DType dtype, int64_t lane, int64_t k) {
  const int64_t index = cpu::panel_index(dtype, lane, k);
  if (dtype == DType::kF32) return static_cast<double>(reinterpret_cast<const float*>(panel)[index]);
  return static_cast<double>(bf16_to_f32(reinterpret_cast<const uint16_t*>(panel)[index]));
}

double panel_element(const Tensor& weight, int64_t group, int64_t row, int64_t k) {
  const int64_t rows = weight.shape[weight.rank - 2], count = weight.shape[weight.rank - 1];
  int64_t panel, lane;
  place_of(weight.layout, rows, row, &panel, &lane);
  const int64_t at = group * panel_count(weight.layout, rows) + panel;
  return element_of(weight.as<char>() + at * panel_bytes(weight.dtype, count), weight.dtype, lane, k);
}

// scale * sum_k x[k] * weight[row][k].
static Bounded dot(const float* x, const Tensor& weight, int64_t group, int64_t row, double scale) {
  const int64_t count = weight.shape[weight.rank - 1];
  double sum = 0.0, magnitude = 0.0;
  for (int64_t k = 0; k < count; k++) {
    const double product = static_cast<double>(x[k]) * panel_element(weight, group, row, k);
    sum += product;
    magnitude += std::abs(product);
  }
  return {scale * sum, scale * sum_error(count, magnitude)};
}

Bounded linear_element(const LinearArgs& args, int64_t t, int64_t n) {
  const Bounded sum = dot(args.x->f32() + t * args.x->shape[1], *args.weight, 0, n, 1.0);
  if (args.activation == Activation::kNone) return sum;
  // |tanh'| <= 1; the function itself is good to two units in the last place.
  const double value = std::tanh(sum.value);
  return {value, sum.tolerance + 4.0 * kRoundoff * std::abs(value)};
}

Bounded grouped_gemm_element(const GroupedGemmArgs& args, int64_t r, int64_t n) {
  const Tensor& weight = *args.weight;
  int64_t group = 0;
  while (args.expert_offsets->i32()[group + 1] <= r) group++;
  const int64_t row = args.token_order != nullptr ? args.token_order->i32()[r] / args.token_order->shape[1] : r;
  const float* x = args.x->f32() + row * weight.shape[2];
  const double scale = static_cast<double>(args.input_scale);
  const Bounded gate = dot(x, weight, group, n, scale);
  if (args.activation == Activation::kNone) return gate;
  const Bounded up = dot(x, weight, group, weight.shape[1] / 2 + n, scale);
  const double silu = gate.value / (1.0 + std::exp(-gate.value));
  // |silu'| <= 1.1. exp 2 units, its argument none (negation), 1 +, /, and the product: 8 roundoffs. The kernel's exp stops at
  // e^88, below which silu is g / e^88 instead of less.
  const double silu_error = 1.1 * gate.tolerance + 8.0 * kRoundoff * std::abs(silu) + std::abs(gate.value) * 0x1p-126;
  return {silu * up.value, silu_error * (std::abs(up.value) + up.tolerance) + std::abs(silu) * up.tolerance + kSmallest};
}

template <class Element>
static std::string check(const float* out, int64_t stride, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns,
                         const Element& element) {
  for (int64_t r : rows) {
    for (int64_t n : columns) {
      const std::string text = difference(out[r * stride + n], element(r, n));
      if (!text.empty()) return "[" + std::to_string(r) + ", " + std::to_string(n) + "] is " + text;
    }
  }
  return {};
}

std::string check_linear(const LinearArgs& args, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns) {
  return check(args.out->f32(), args.out->shape[1], rows, columns,
               [&](int64_t t, int64_t n) { return linear_element(args, t, n); });
}

std::string check_grouped_gemm(const GroupedGemmArgs& args, const std::vector<int64_t>& rows,
                               const std::vector<int64_t>& columns) {
  return check(args.out->f32(), args.out->shape[args.out->rank - 1], rows, columns,
               [&](int64_t r, int64_t n) { return grouped_gemm_element(args, r, n); });
}

std::vector<int64_t> sample(int64_t n, int64_t count) {
  std::vector<int64_t> indices;
  if (n <= count) count = n;
  for (int64_t i = 0; i < count; i++) indices.push_back(count > 1 ? i * (n - 1) / (count - 1) : 0);
  return indices;
}

void fill_panels(void* dst, DType dtype, Layout layout, int64_t groups, int64_t rows, int64_t k, uint32_t seed, float scale) {
  uint32_t state = seed * 2654435761u + 1u;
  char* panel = static_cast<char*>(dst);
  for (int64_t p = 0; p < groups * panel_count(layout, rows); p++, panel += panel_bytes(dtype, k)) {
    for (int64_t at = 0; at < (dtype == DType::kF32 ? k : (k + 1) / 2 * 2); at++) {
      for (int64_t lane = 0; lane < 32; lane++) {
        state = state * 1664525u + 1013904223u;
        const bool real = at < k && cpu::panel_row(layout, rows, p % panel_count(layout, rows), lane) >= 0;
        const float value = real ? scale * (static_cast<float>(state >> 8) * 0x1p-23f - 1.0f) : 0.0f;
        const int64_t index = cpu::panel_index(dtype, lane, at);
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
