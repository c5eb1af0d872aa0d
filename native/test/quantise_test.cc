// Quantised weights: the numbers (quantise.h), their packing, and the promises of the GEMMs over
// them.
#include "weights/quantise.h"

#include <algorithm>
#include <vector>

#include "cpu/isa/isa.h"
#include "cpu/pack.h"
#include "host/thread_pool.h"
#include "reference_gemm.h"
#include "test.h"

namespace moepp::test {

using namespace moepp::cpu;

// Blocks of 128 of several kinds: normal, uniform, heavy tails, one outlier, of magnitudes far
// apart, tiny, zero, huge.
static std::vector<std::vector<float>> blocks() {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<std::vector<float>> all;
  for (int kind = 0; kind < 9; kind++) {
    for (int copy = 0; copy < 40; copy++) {
      std::vector<float> values(128);
      for (size_t i = 0; i < 128; i++) {
        const float x = normal(random);
        values[i] = kind == 0   ? x
                    : kind == 1 ? static_cast<float>(random() % 2001) * 1e-3f - 1.0f
                    : kind == 2 ? x * x * x * 1e4f
                    : kind == 3 ? (i == static_cast<size_t>(copy) ? 3.0f : x)
                    : kind == 4 ? std::ldexp(x, static_cast<int>(i / 32) * -3)
                    : kind == 5 ? x * 0x1p-95f
                    : kind == 6 ? (i < 64 ? 0.0f : x)
                    : kind == 7 ? x * 0x1p120f
                                : x * 0x1p-110f;
      }
      all.push_back(std::move(values));
    }
  }
  all.emplace_back(128, 0.0f);
  all.emplace_back(128, -1.0f);
  all.emplace_back(128, 127.0f);
  return all;
}

// The largest error that a value may have with a step: half of it, or what the range cuts off.
static double largest_error(double value, double step, double low, double high) {
  const double bound = std::max({step / 2, low * step - value, value - high * step});
  return bound * (1.0 + 4.0 * kRoundoff);
}

MOEPP_TEST(quantise_int8_rounds_to_nearest) {
  for (const std::vector<float>& values : blocks()) {
    Int8Block block;
    EXPECT(quantise_int8(values.data(), &block));
    const double step = static_cast<double>(bf16_to_f32(block.scale));
    float most = 0.0f;
    for (const float value : values) most = std::max(most, std::fabs(value));
    EXPECT(block.scale == (most < 0x1p-100f ? 0 : f32_to_bf16(most / 127.0f)));
    for (size_t i = 0; i < 128; i++) {
      const double value = static_cast<double>(values[i]),
                   error = std::abs(value - block.q[i] * step);
      EXPECT(block.q[i] >= -127);
      // bf16 rounds the scale by at most 2^-9, so that the largest value is at most 127.25 steps:
      // nothing is cut off.
      EXPECT(step == 0.0 ? block.q[i] == 0 && std::abs(value) < 0x1p-100
                         : error <= step / 2 * (1.0 + 4.0 * kRoundoff * 127.0));
    }
  }
}

static double squared_error(const float* values, const int8_t* q, double step) {
  double error = 0.0;
  for (int64_t i = 0; i < 32; i++)
    error += std::pow(static_cast<double>(values[i]) - q[i] * step, 2);
  return error;
}

// A result without a search: the scale that cuts nothing off.
static double plain_int4_error(const float* values) {
  float most = 0.0f;
  for (int64_t i = 0; i < 32; i++) most = std::max(most, std::fabs(values[i]));
  const double step = static_cast<double>(bf16_to_f32(f32_to_bf16(most / 7.0f)));
  int8_t q[32];
  for (int64_t i = 0; i < 32; i++) {
    q[i] = static_cast<int8_t>(std::min(
        7.0,
        std::max(-8.0, step > 0.0 ? std::nearbyint(static_cast<double>(values[i]) / step) : 0.0)));
  }
  return squared_error(values, q, step);
}

MOEPP_TEST(quantise_int4_searches_its_scales) {
  double searched = 0.0, plain = 0.0;  // of the normal blocks
  size_t index = 0;
  for (const std::vector<float>& values : blocks()) {
    Int4Block block;
    EXPECT(quantise_int4(values.data(), &block));
    const float scale = bf16_to_f32(block.scale);
    for (int64_t j = 0; j < 4; j++) {
      EXPECT(block.multiplier[j] != 0 && std::abs(block.multiplier[j]) <= 15);
      const float step = static_cast<float>(block.multiplier[j]) * scale;
      EXPECT(bf16_to_f32(f32_to_bf16(step)) == step);
      for (int64_t i = 32 * j; i < 32 * j + 32; i++) {
        const double value = static_cast<double>(values[static_cast<size_t>(i)]);
        EXPECT(block.q[i] >= -8 && block.q[i] <= 7);
        EXPECT(scale == 0.0f ? block.q[i] == 0
                             : std::abs(value - block.q[i] * static_cast<double>(step)) <=
                                   largest_error(step > 0.0f ? value : -value,
                                                 std::abs(static_cast<double>(step)), -8, 7));
      }
      if (index < 40) {
        searched +=
            squared_error(values.data() + 32 * j, block.q + 32 * j, static_cast<double>(step));
        plain += plain_int4_error(values.data() + 32 * j);
      }
    }
    index++;
  }
  EXPECT_MESSAGE(searched < 0.8 * plain,
                 "the search reaches " + std::to_string(searched / plain) + " of the plain error");
}

MOEPP_TEST(quantise_refuses_what_is_not_finite) {
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF}) {
    for (size_t place : {0, 31, 77, 127}) {
      std::vector<float> values(128, 0.5f);
      values[place] = bad;
      Int8Block int8;
      Int4Block int4;
      EXPECT(!quantise_int8(values.data(), &int8));
      EXPECT(!quantise_int4(values.data(), &int4));
    }
  }
}

// A weight in f32, and packed.
struct Packed {
  int64_t rows, k;
  std::vector<float> values;
  Guarded<unsigned char> bytes;
  Tensor tensor_;

  Packed(DType dtype, Layout layout, int64_t rows, int64_t k)
      : rows(rows),
        k(k),
        values(static_cast<size_t>(rows * k)),
        bytes(panel_count(layout, rows) * panel_bytes(dtype, k) + 64) {
    fill(values.data(), rows * k, 5);
    unsigned char* first =
        bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
    for (int64_t panel = 0; panel < panel_count(layout, rows); panel++) {
      PackRow lanes[kPanelRows];
      for (int64_t lane = 0; lane < kPanelRows; lane++) {
        const int64_t row = panel_row(layout, rows, panel, lane);
        if (row >= 0)
          lanes[lane] = {reinterpret_cast<const std::byte*>(values.data() + row * k), DType::kF32,
                         1};
      }
      EXPECT(pack_panel(reinterpret_cast<std::byte*>(first + panel * panel_bytes(dtype, k)), dtype,
                        lanes, k) == -1);
    }
    EXPECT(bytes.margins_intact());
    tensor_ = tensor(first, dtype, {rows, k}, layout);
  }
};

MOEPP_TEST(quantise_packs_every_element) {
  for (DType dtype : {DType::kI8, DType::kI4}) {
    for (Layout layout : {Layout::kMatrix, Layout::kGateUp}) {
      for (int64_t k : {1, 4, 31, 60, 128, 130, 300}) {
        for (int64_t rows : {2, 32, 74}) {
          const Packed packed(dtype, layout, rows, k);
          int64_t wrong = 0;
          for (int64_t row = 0; row < rows; row++) {
            for (int64_t b = 0; b < (k + 127) / 128; b++) {
              float values[128] = {};
              const int64_t n = std::min<int64_t>(128, k - b * 128);
              std::copy_n(packed.values.data() + row * k + b * 128, n, values);
              Int8Block int8;
              Int4Block int4;
              EXPECT(quantise_int8(values, &int8) && quantise_int4(values, &int4));
              for (int64_t i = 0; i < n; i++) {
                const double expected =
                    dtype == DType::kI8 ? int8.q[i] * static_cast<double>(bf16_to_f32(int8.scale))
                                        : int4.q[i] * int4.multiplier[i / 32] *
                                              static_cast<double>(bf16_to_f32(int4.scale));
                wrong += panel_element(packed.tensor_, 0, row, b * 128 + i) == expected ? 0 : 1;
              }
            }
          }
          EXPECT_MESSAGE(wrong == 0, std::string(dtype_name(dtype)) + " [" + std::to_string(rows) +
                                         ", " + std::to_string(k) + "]: " + std::to_string(wrong) +
                                         " elements are wrong");
        }
      }
    }
  }
}

MOEPP_TEST(quantise_names_the_row_that_is_not_finite) {
  std::vector<float> values(40, 1.0f), bad(40, 1.0f);
  bad[39] = HUGE_VALF;
  PackRow lanes[kPanelRows];
  for (PackRow& lane : lanes)
    lane = {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, 1};
  lanes[7].data = reinterpret_cast<const std::byte*>(bad.data());
  std::vector<std::byte> panel(static_cast<size_t>(panel_bytes(DType::kI8, 40)));
  EXPECT(pack_panel(panel.data(), DType::kI8, lanes, 40) == 7);
  EXPECT(pack_panel(panel.data(), DType::kI4, lanes, 40) == 7);
}

static std::vector<float> run_linear(const Isa& isa, ThreadPool& pool, const std::vector<float>& x,
                                     const Tensor& weight) {
  const int64_t k = weight.shape[1], tokens = static_cast<int64_t>(x.size()) / k;
  std::vector<float> out(static_cast<size_t>(tokens * weight.shape[0]));
  const Tensor xt = tensor(const_cast<float*>(x.data()), DType::kF32, {tokens, k});
  Tensor ot = tensor(out.data(), DType::kF32, {tokens, weight.shape[0]});
  isa.kernels->linear({&xt, &weight, &ot, Activation::kNone}, pool);
  return out;
}

// Each count of rows has a tile of its own: one set's bits are those of all.
MOEPP_TEST(quantised_linear_has_the_same_bits_on_every_instruction_set) {
  ThreadPool one(1), two(2);
  for (DType dtype : {DType::kI8, DType::kI4}) {
    for (const auto& [rows, k] : {std::pair<int64_t, int64_t>{75, 300}, {33, 61}, {40, 1536}}) {
      std::vector<unsigned char> bytes(
          static_cast<size_t>(panel_count(Layout::kMatrix, rows) * panel_bytes(dtype, k)));
      fill_panels(bytes.data(), dtype, Layout::kMatrix, 1, rows, k, 3, 1.0f);
      const Tensor weight = tensor(bytes.data(), dtype, {rows, k}, Layout::kMatrix);
      std::vector<float> all(static_cast<size_t>(130 * k));
      fill(all.data(), 130 * k, 8);
      const std::vector<float> expected = run_linear(available_isas().back(), one, all, weight);
      for (int64_t tokens = 1; tokens <= 130; tokens = tokens < 40 ? tokens + 1 : tokens + 45) {
        const std::vector<float> x(all.begin(), all.begin() + tokens * k);
        for (const Isa& isa : available_isas()) {
          const std::vector<float> out = run_linear(isa, two, x, weight);
          EXPECT_MESSAGE(same_bits(out.data(), expected.data(), out.size() * 4),
                         std::string(isa.name) + " " + dtype_name(dtype) +
                             " T=" + std::to_string(tokens) + " differs");
        }
      }
    }
  }
}

// The product of the unquantised numbers. The quantised one may be off by the errors of the steps
// of its weights, and by half a step of each input.
static std::vector<Bounded> unquantised_product(const std::vector<float>& x, const Packed& packed) {
  const int64_t k = packed.k;
  std::vector<Bounded> outputs;
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(k)) {
    std::vector<double> half_steps;
    for (int64_t i = 0; i < k; i += 128) {
      const float* block = &x[row + static_cast<size_t>(i)];
      const float step = quantise_inputs(block, std::min<int64_t>(128, k - i)).scale;
      half_steps.insert(half_steps.end(), 128, 0.5001 * static_cast<double>(step));
    }
    for (int64_t n = 0; n < packed.rows; n++) {
      Bounded out;
      for (int64_t i = 0; i < k; i++) {
        const double input = static_cast<double>(x[row + static_cast<size_t>(i)]),
                     value = static_cast<double>(packed.values[static_cast<size_t>(n * k + i)]),
                     stored = panel_element(packed.tensor_, 0, n, i);
        out.value += input * value;
        out.tolerance += std::abs(input) * std::abs(value - stored) +
                         std::abs(stored) * half_steps[static_cast<size_t>(i)];
      }
      out.tolerance += sum_error(8, out.tolerance + std::abs(out.value));
      outputs.push_back(out);
    }
  }
  return outputs;
}

MOEPP_TEST(quantised_linear_is_near_the_unquantised_product) {
  ThreadPool one(1);
  constexpr int64_t kRows = 70, kInputs = 400, kTokens = 14;
  std::vector<float> x(kTokens * kInputs);
  fill(x.data(), kTokens * kInputs, 9);
  for (DType dtype : {DType::kI8, DType::kI4}) {
    const Packed packed(dtype, Layout::kMatrix, kRows, kInputs);
    const std::vector<Bounded> exact = unquantised_product(x, packed);
    for (const Isa& isa : available_isas()) {
      const std::string label = std::string(isa.name) + " " + dtype_name(dtype) + ": ";
      const std::vector<float> out = run_linear(isa, one, x, packed.tensor_);
      const std::string wrong = difference(out.data(), exact);
      EXPECT_MESSAGE(wrong.empty(), label + wrong);
      double error = 0.0, size = 0.0;
      for (size_t i = 0; i < out.size(); i++) {
        error += std::pow(static_cast<double>(out[i]) - exact[i].value, 2);
        size += exact[i].value * exact[i].value;
      }
      // Uniform weights and inputs. A step is 2 / 254 (int8) or 2 / 15 of the range. Its rounding
      // error is the root of 1/12 of that, a value the root of 1/3 of half the range. Twice that
      // covers the spread of 980 outputs.
      const double inputs_error = 1.0 / 254.0,
                   weights_error = dtype == DType::kI8 ? 1.0 / 254.0 : 1.0 / 15.0;
      const double expected =
          std::sqrt(inputs_error * inputs_error + weights_error * weights_error);
      EXPECT_MESSAGE(std::sqrt(error / size) <= 2.0 * expected,
                     label + "relative error " + std::to_string(std::sqrt(error / size)));
    }
  }
}

}  // namespace moepp::test
