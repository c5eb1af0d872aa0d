// The references of the router and of top-k gating.
#include <algorithm>
#include <numeric>

#include "reference.h"

namespace moepp::test {

static double value(const float* p, int64_t i) {
  return static_cast<double>(p[i]);
}

std::string check_router_logits(const RouterLogitsArgs& args, const Tokens& tokens) {
  const int64_t e = args.logits->shape[1], x = args.constant_scores->shape[1], h = args.x->shape[1];
  const Tensor& z = args.hidden != nullptr ? *args.hidden : *args.x;
  const int64_t g = z.shape[1];
  for (int64_t t : tokens) {
    std::vector<Bounded> logits, scores;
    const auto dot = [](const float* a, const float* b, int64_t n, double* magnitude) {
      double sum = 0.0;
      for (int64_t i = 0; i < n; i++) {
        sum += value(a, i) * value(b, i);
        *magnitude += std::abs(value(a, i) * value(b, i));
      }
      return sum;
    };
    for (int64_t r = 0; r < e; r++) {
      double magnitude = 0.0,
             logit = dot(args.router->f32() + r * g, z.f32() + t * g, g, &magnitude);
      if (args.residual_map != nullptr) {
        logit += dot(args.residual_map->f32() + r * e, args.previous_logits->f32() + t * e, e,
                     &magnitude);
      }
      logits.push_back({logit, sum_error(g + (args.residual_map != nullptr ? e : 0), magnitude)});
    }
    for (int64_t r = 0; r < x; r++) {
      double magnitude = 0.0;
      const double score =
          dot(args.constant_router->f32() + r * h, args.x->f32() + t * h, h, &magnitude);
      scores.push_back({score, sum_error(h, magnitude)});
    }
    std::string text = difference(args.logits->f32() + t * e, logits);
    if (!text.empty()) return "logits[" + std::to_string(t) + "]" + text;
    text = difference(args.constant_scores->f32() + t * x, scores);
    if (!text.empty()) return "constant_scores[" + std::to_string(t) + "]" + text;
  }
  return {};
}

namespace {

struct Picks {
  std::vector<int32_t> indices;
  std::vector<Bounded> weights;
};

constexpr double kExpUnderflow = -104.0;  // e^x is 0 in f32

}  // namespace

static double scale_of(const RouteTopKArgs& args, const float* logits, int64_t e) {
  double mean = 0.0, squares = 0.0;
  for (int64_t i = 0; i < e; i++) mean += value(logits, i) / static_cast<double>(e);
  for (int64_t i = 0; i < e; i++) squares += (value(logits, i) - mean) * (value(logits, i) - mean);
  // Equal logits: the mean's rounding is no deviation.
  const bool equal =
      std::all_of(logits, logits + e, [&](float logit) { return logit == logits[0]; });
  return args.norm_std == 0.0f || equal
             ? 1.0
             : static_cast<double>(args.norm_std) / std::sqrt(squares / static_cast<double>(e - 1));
}

// The picks of one token whose logits are finite.
static Picks pick(const RouteTopKArgs& args, int64_t t) {
  const int64_t e = args.logits->shape[1], k = args.expert_indices->shape[1];
  const float* logits = args.logits->f32() + t * e;
  std::vector<int32_t> order(static_cast<size_t>(e));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  Picks picks;
  picks.indices.assign(order.begin(), order.begin() + k);
  const double scale = scale_of(args, logits, e), highest = value(logits, picks.indices[0]);
  double total = 0.0, error = 0.0;
  for (int32_t index : picks.indices) {
    const double below = (value(logits, index) - highest) * scale;
    const bool dropped = index == e - 1 && !args.mixtral;
    const double weight = dropped || below < kExpUnderflow ? 0.0 : std::exp(below);
    // The rounding of `below`, and two units in the last place of exp.
    picks.weights.push_back(
        {weight, weight * kRoundoff * (std::abs(below) + 4.0) + 2.0 * kSmallest * kRoundoff});
    total += weight;
    error += picks.weights.back().tolerance;
  }
  error += sum_error(k, total);
  for (size_t i = 0; i < picks.weights.size(); i++) {
    Bounded& w = picks.weights[i];
    if (total == 0.0) {
      const int64_t others = std::count_if(picks.indices.begin(), picks.indices.end(),
                                           [&](int32_t index) { return index != e - 1; });
      const double share = picks.indices[i] == e - 1 ? 0.0 : 1.0 / static_cast<double>(others);
      w = {share, kRoundoff * share};
    } else {
      w = {w.value / total,
           1.01 * (w.tolerance / total + w.value / total * (error / total + kRoundoff)) +
               2.0 * kSmallest * kRoundoff};
    }
  }
  return picks;
}

// {cx, c_1 .. c_C} of one token.
static std::vector<Bounded> collapse(const RouteTopKArgs& args, int64_t t, const Picks& picks) {
  const int64_t e = args.logits->shape[1], c = args.coefficients->shape[1] - 1, n = e - c - 2;
  const double input_scale = static_cast<double>(args.input_scale);
  std::vector<Bounded> out(static_cast<size_t>(c + 1));
  for (size_t i = 0; i < picks.indices.size(); i++) {
    const Bounded& w = picks.weights[i];
    const int64_t j = picks.indices[i] - n;
    if (j < 0 || j == c + 1) continue;
    if (j == c) {
      out[0].value += input_scale * w.value;
      out[0].tolerance += input_scale * w.tolerance;
      continue;
    }
    const float* scores = args.constant_scores->f32() + t * 2 * c + 2 * j;
    const double up = input_scale * (value(scores, 1) - value(scores, 0));
    const double parts[2] = {1.0 / (1.0 + std::exp(up)), 1.0 / (1.0 + std::exp(-up))};
    for (size_t part = 0; part < 2; part++) {
      const double factor = (part == 0 ? input_scale : 1.0) * parts[part];
      Bounded& to = out[part == 0 ? 0 : static_cast<size_t>(1 + j)];
      to.value += factor * w.value;
      to.tolerance +=
          factor * (w.tolerance + w.value * kRoundoff * (std::abs(up) + 8.0)) + 4.0 * kSmallest;
    }
  }
  out[0].tolerance += sum_error(static_cast<int64_t>(picks.indices.size()), out[0].value);
  return out;
}

// The sorted picks, from the indices that the kernel chose.
static std::string check_order(const RouteTopKArgs& args) {
  const int64_t picks = args.expert_indices->elements(), n = args.expert_offsets->shape[0] - 1;
  const int32_t* indices = args.expert_indices->i32();
  int32_t row = 0;
  for (int64_t expert = 0; expert <= n; expert++) {
    if (args.expert_offsets->i32()[expert] != row)
      return "expert_offsets[" + std::to_string(expert) + "] differs";
    for (int64_t i = 0; expert < n && i < picks; i++) {
      if (indices[i] != expert) continue;
      if (args.token_order->i32()[row] != i || args.expert_rows->i32()[i] != row)
        return "row " + std::to_string(row) + " differs";
      row++;
    }
  }
  for (int64_t i = 0; i < picks; i++) {
    if (indices[i] >= n && args.expert_rows->i32()[i] != -1)
      return "expert_rows[" + std::to_string(i) + "] is not -1";
  }
  return {};
}

std::string check_route_top_k(const RouteTopKArgs& args) {
  const int64_t tokens = args.logits->shape[0], k = args.expert_indices->shape[1],
                c = args.coefficients->shape[1] - 1;
  for (int64_t t = 0; t < tokens; t++) {
    const Picks picks = pick(args, t);
    if (!std::equal(picks.indices.begin(), picks.indices.end(),
                    args.expert_indices->i32() + t * k)) {
      return "expert_indices[" + std::to_string(t) + "] differ";
    }
    std::string text = difference(args.expert_weights->f32() + t * k, picks.weights);
    if (!text.empty()) return "expert_weights[" + std::to_string(t) + "]" + text;
    text = difference(args.coefficients->f32() + t * (c + 1), collapse(args, t, picks));
    if (!text.empty()) return "coefficients[" + std::to_string(t) + "]" + text;
  }
  return check_order(args);
}

std::string check_norm_route_top_k(const NormRouteTopKArgs& args, const Tokens& tokens) {
  std::string text = check_rms_norm(args.norm(), tokens);
  if (text.empty()) text = check_router_logits(args.router_logits(), tokens);
  return text.empty() ? check_route_top_k(args.route()) : text;
}

}  // namespace moepp::test
