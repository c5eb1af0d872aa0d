#include "reference.h"

#include <algorithm>
#include <numeric>

#include "weights/panels.h"
#include "reference_gemm.h"

namespace moepp::test {

std::string check_embedding(const EmbeddingArgs& args, const Tokens& tokens) {
  const Tensor& table = *args.table;
  const int64_t h = table.shape[1];
  for (int64_t t : tokens) {
    const int64_t row = args.tokens->i32()[t];
    std::vector<Bounded> expected;
    for (int64_t i = 0; i < h; i++) {
      if (is_quantised(table.dtype)) {
        expected.push_back({panel_element(table, 0, row, i), 0.0});
        continue;
      }
      int64_t index = row * h + i;
      if (table.layout == Layout::kMatrix) {
        index = row / kPanelRows * panel_bytes(table.dtype, h) / dtype_size(table.dtype) +
                panel_index(table.dtype, row % kPanelRows, i);
      }
      const float element = table.dtype == DType::kF32 ? table.f32()[index]
                                                       : bf16_to_f32(table.as<uint16_t>()[index]);
      expected.push_back({static_cast<double>(element), 0.0});
    }
    const std::string text = at("out", t, difference(args.out->f32() + t * h, expected));
    if (!text.empty()) return text;
  }
  return {};
}

std::string check_combine(const CombineArgs& args, const Tokens& tokens) {
  const int64_t h = args.x->shape[1], c = args.coefficients->shape[1] - 1,
                k = args.expert_rows->shape[1];
  for (int64_t t : tokens) {
    std::vector<Bounded> moe, sum;
    for (int64_t i = 0; i < h; i++) {
      double m = 0.0, magnitude = 0.0;
      const auto add = [&](double weight, double term) {
        m += weight * term;
        magnitude += std::abs(weight * term);
      };
      const float* coefficients = args.coefficients->f32() + t * (c + 1);
      if (coefficients[0] != 0.0f) add(value(coefficients, 0), value(args.x->f32(), t * h + i));
      for (int64_t j = 0; j < c; j++) {
        if (coefficients[1 + j] != 0.0f)
          add(value(coefficients, 1 + j), value(args.constants->f32(), j * h + i));
      }
      for (int64_t j = 0; j < k; j++) {
        const int64_t row = args.expert_rows->i32()[t * k + j];
        if (row >= 0)
          add(value(args.expert_weights->f32(), t * k + j),
              value(args.expert_out->f32(), row * h + i));
      }
      moe.push_back({m, sum_error(1 + c + k, magnitude)});
      const double delta = args.delta != nullptr ? value(args.delta->f32(), t * h + i) : 0.0,
                   before = value(args.residual->f32(), t * h + i) + delta, s = before + m;
      const double rounding = args.delta != nullptr ? kRoundoff * std::abs(before) : 0.0,
                   error = moe.back().tolerance + rounding;
      sum.push_back({s, error + kRoundoff * (std::abs(s) + error)});
    }
    std::string text = args.moe_output == nullptr
                           ? ""
                           : at("moe_output", t, difference(args.moe_output->f32() + t * h, moe));
    if (text.empty() && args.sum != nullptr)
      text = at("sum", t, difference(args.sum->f32() + t * h, sum));
    if (text.empty() && args.norm_weight != nullptr) {
      const auto out = normalise(sum, args.norm_weight->f32(), static_cast<double>(args.eps));
      text = at("out", t, difference(args.out->f32() + t * h, out));
    }
    if (!text.empty()) return text;
  }
  return {};
}

std::string check_gather_rows(const GatherRowsArgs& args) {
  const int64_t h = args.x->shape[1];
  for (int64_t r = 0; r < args.rows->shape[0]; r++) {
    if (!same_bits(args.out->f32() + r * h, args.x->f32() + args.rows->i32()[r] * h,
                   static_cast<size_t>(h) * 4)) {
      return "out[" + std::to_string(r) + "] differs";
    }
  }
  return {};
}

// Relative to the exact sum: 2 units in the last place for each exponential, and the rounding of
// its argument; 2^-22 for the sum.
static Bounded expected_exp_sum(const float* logits, int64_t v, double largest) {
  double total = 0.0, error = 0.0;
  for (int64_t i = 0; i < v; i++) {
    const double below = value(logits, i) - largest, e = std::exp(below);
    total += e;
    if (e > 0.0)
      error += e * (4.0 * kRoundoff + std::abs(below) * kRoundoff) + kSmallest * kRoundoff;
  }
  return {total, error + total * 0x1p-22};
}

std::string check_top_logits(const TopLogitsArgs& args) {
  const int64_t v = args.logits->shape[1];
  const Tensor* top = args.top_logits != nullptr ? args.top_logits : args.top_indices;
  for (int64_t r = 0; r < args.logits->shape[0]; r++) {
    const float* logits = args.logits->f32() + r * v;
    std::vector<int32_t> order(static_cast<size_t>(v));
    std::iota(order.begin(), order.end(), 0);
    const auto rank = [&](int32_t i) {
      return std::isnan(logits[i]) ? std::pair(1, 0.0f) : std::pair(0, logits[i]);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return rank(a) > rank(b); });
    for (int64_t k = 0; top != nullptr && k < top->shape[1]; k++) {
      const int64_t at = r * top->shape[1] + k;
      const int32_t expected = order[static_cast<size_t>(k)];
      const std::string where = "[" + std::to_string(r) + "][" + std::to_string(k) + "]";
      if (args.top_indices != nullptr && args.top_indices->i32()[at] != expected)
        return "top_indices" + where + " is " + std::to_string(args.top_indices->i32()[at]) +
               ", expected " + std::to_string(expected);
      if (args.top_logits != nullptr &&
          !same_bits(args.top_logits->f32() + at, logits + expected, 4))
        return "top_logits" + where;
    }
    if (args.exp_sum == nullptr) continue;
    const std::string text =
        difference(args.exp_sum->f32()[r], expected_exp_sum(logits, v, value(logits, order[0])));
    if (!text.empty()) return "exp_sum[" + std::to_string(r) + "] is " + text;
  }
  return {};
}

}  // namespace moepp::test
