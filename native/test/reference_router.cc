// The references of the router and of top-k gating.
#include <algorithm>
#include <numeric>

#include "reference.h"

namespace moepp::test {

std::string check_router_logits(const RouterLogitsArgs& args, const Tokens& tokens) {
  const int64_t e = args.logits->shape[1], h = args.x->shape[1],
                x = args.constant_router != nullptr ? args.constant_router->shape[0] : 0;
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
    if (x > 0) text = difference(args.constant_scores->f32() + t * x, scores);
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

static bool is_masked(const RouteTopKArgs& args, int64_t expert) {
  return args.masked && args.experts.kind_of(static_cast<int32_t>(expert)) != ExpertKind::kFfn;
}

static bool has_no_weight(const RouteTopKArgs& args, int32_t expert) {
  return is_masked(args, expert) ||
         (args.drop_zero && args.experts.kind_of(expert) == ExpertKind::kZero);
}

// e^below: the rounding of `below`, and two units in the last place of exp.
static Bounded power(double below) {
  const double value = below < kExpUnderflow ? 0.0 : std::exp(below);
  return {value, value * kRoundoff * (std::abs(below) + 4.0) + 2.0 * kSmallest * kRoundoff};
}

static Bounded quotient(const Bounded& a, const Bounded& total) {
  return {a.value / total.value,
          1.01 * (a.tolerance / total.value +
                  a.value / total.value * (total.tolerance / total.value + kRoundoff)) +
              2.0 * kSmallest * kRoundoff};
}

static Bounded sum_of(const std::vector<Bounded>& terms) {
  Bounded sum;
  for (const Bounded& term : terms) sum.value += term.value, sum.tolerance += term.tolerance;
  sum.tolerance += sum_error(static_cast<int64_t>(terms.size()), sum.value);
  return sum;
}

// g of every expert.
static std::vector<Bounded> score(const RouteTopKArgs& args, int64_t t) {
  const int64_t e = args.logits->shape[1];
  const float* logits = args.logits->f32() + t * e;
  const double scale = scale_of(args, logits, e);
  double highest = -HUGE_VAL;
  for (int64_t i = 0; i < e; i++) {
    if (!is_masked(args, i)) highest = std::max(highest, value(logits, i));
  }
  std::vector<Bounded> scores;
  for (int64_t i = 0; i < e; i++) {
    if (is_masked(args, i)) {
      scores.push_back({0.0, 0.0});
    } else if (args.scores == Scores::kSoftmax) {
      scores.push_back(power((value(logits, i) - highest) * scale));
    } else {
      // 1 / (1 + e^-z), and e^-z has the share 1 - g of the sum. An e^-z past the largest f32 gives
      // 0.
      const double z = value(logits, i) * scale, g = 1.0 / (1.0 + std::exp(-z)),
                   share = 1.0 / (1.0 + std::exp(z));
      const double error = share > 0.0 ? share * (std::abs(z) + 4.0) : 0.0;
      scores.push_back({g, g * kRoundoff * (error + 4.0) + kSmallest});
    }
  }
  const Bounded total = sum_of(scores);
  for (Bounded& g : scores) {
    if (args.scores == Scores::kSoftmax && g.value > 0.0) g = quotient(g, total);
  }
  return scores;
}

static bool by_choice(const RouteTopKArgs& args) {
  return args.selection_bias != nullptr || args.groups > 1;
}

// c of every expert before the groups.
static std::vector<Bounded> choices_of(const RouteTopKArgs& args, std::vector<Bounded> c) {
  for (size_t i = 0; args.selection_bias != nullptr && i < c.size(); i++) {
    c[i].value += value(args.selection_bias->f32(), static_cast<int64_t>(i));
    c[i].tolerance += kRoundoff * (std::abs(c[i].value) + c[i].tolerance);
  }
  return c;
}

// Sets the c outside the best groups to 0. False where rounding may decide which groups are best.
static bool keep_groups(const RouteTopKArgs& args, std::vector<Bounded>* c) {
  const auto groups = static_cast<size_t>(args.groups), size = c->size() / groups;
  std::vector<Bounded> sums;
  std::vector<size_t> order(groups);
  for (size_t g = 0; g < groups; g++) {
    const auto first = c->begin() + static_cast<std::ptrdiff_t>(g * size);
    std::vector<Bounded> sorted(first, first + static_cast<std::ptrdiff_t>(size));
    std::sort(sorted.begin(), sorted.end(),
              [](const Bounded& a, const Bounded& b) { return a.value > b.value; });
    double error = 0.0;
    for (const Bounded& one : sorted) error = std::max(error, one.tolerance);
    sums.push_back({sorted[0].value + sorted[1].value, 0.0});
    sums.back().tolerance = 2.0 * error + kRoundoff * (std::abs(sums.back().value) + 2.0 * error);
    order[g] = g;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sums[a].value > sums[b].value; });
  bool decided = true;
  for (size_t place = static_cast<size_t>(args.top_groups); place < groups; place++) {
    const Bounded &out = sums[order[place]],
                  &last = sums[order[static_cast<size_t>(args.top_groups) - 1]];
    decided &= out.value == last.value || last.value - out.value > last.tolerance + out.tolerance;
    for (size_t i = 0; i < size; i++) (*c)[order[place] * size + i] = {0.0, 0.0};
  }
  return decided;
}

// The fault in the order of picks by choices: none may be followed, or left out, for a smaller one.
static std::string bad_order(const std::vector<Bounded>& c, const int32_t* picks, int64_t k) {
  std::vector<bool> picked(c.size());
  const auto before = [&](size_t a, size_t b) {
    if (c[a].tolerance == HUGE_VAL) return true;
    if (c[a].value == c[b].value) return a < b;
    return c[a].value - c[b].value > -(c[a].tolerance + c[b].tolerance);
  };
  for (int64_t i = 0; i < k; i++) {
    if (picks[i] < 0 || static_cast<size_t>(picks[i]) >= c.size() ||
        picked[static_cast<size_t>(picks[i])])
      return " are no different experts";
    picked[static_cast<size_t>(picks[i])] = true;
    if (i > 0 && !before(static_cast<size_t>(picks[i - 1]), static_cast<size_t>(picks[i])))
      return " are out of order";
  }
  for (size_t i = 0; i < c.size(); i++) {
    if (!picked[i] && !before(static_cast<size_t>(picks[k - 1]), i)) return " leave one out";
  }
  return {};
}

// The picks by the order of the logits, exactly.
static std::vector<int32_t> largest_logits(const RouteTopKArgs& args, int64_t t) {
  const int64_t e = args.logits->shape[1], k = args.expert_indices->shape[1];
  const float* logits = args.logits->f32() + t * e;
  std::vector<int32_t> order(static_cast<size_t>(e));
  std::iota(order.begin(), order.end(), 0);
  const auto z = [&](int32_t i) { return is_masked(args, i) ? -HUGE_VAL : value(logits, i); };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return z(a) > z(b); });
  order.resize(static_cast<size_t>(k));
  return order;
}

// The weights before they are normalised. A softmax that all picks share needs no sum over all E.
static std::vector<Bounded> first_weights(const RouteTopKArgs& args, int64_t t,
                                          const std::vector<int32_t>& picks,
                                          const std::vector<Bounded>& scores) {
  const int64_t e = args.logits->shape[1];
  const float* logits = args.logits->f32() + t * e;
  const double scale = scale_of(args, logits, e);
  const bool shared = args.scores == Scores::kSoftmax && args.normalise && !by_choice(args);
  std::vector<Bounded> weights;
  for (const int32_t pick : picks) {
    if (has_no_weight(args, pick)) {
      weights.push_back({0.0, 0.0});
    } else if (shared) {
      weights.push_back(power((value(logits, pick) - value(logits, picks[0])) * scale));
    } else {
      weights.push_back(scores[static_cast<size_t>(pick)]);
    }
  }
  return weights;
}

static std::vector<Bounded> weigh(const RouteTopKArgs& args, int64_t t,
                                  const std::vector<int32_t>& picks,
                                  const std::vector<Bounded>& scores) {
  std::vector<Bounded> weights = first_weights(args, t, picks, scores);
  Bounded total = sum_of(weights);
  if (args.scores == Scores::kSigmoid)
    total.value += 1e-20, total.tolerance += kRoundoff * total.value;
  const auto others = std::count_if(picks.begin(), picks.end(),
                                    [&](int32_t pick) { return !has_no_weight(args, pick); });
  for (size_t i = 0; i < picks.size(); i++) {
    Bounded& w = weights[i];
    if (args.normalise && total.value > 0.0) {
      w = quotient(w, total);
    } else if (args.normalise && args.drop_zero && !has_no_weight(args, picks[i])) {
      const double share = 1.0 / static_cast<double>(others);
      w = {share, kRoundoff * share};
    }
    const auto factor = static_cast<double>(args.weight_scale);
    w = {w.value * factor, w.tolerance * factor + kRoundoff * w.value * factor};
  }
  return weights;
}

// {cx, c_1 .. c_C} of one token.
static std::vector<Bounded> collapse(const RouteTopKArgs& args, int64_t t, const Picks& picks) {
  const int64_t c = args.coefficients->shape[1] - 1;
  const double input_scale = static_cast<double>(args.input_scale);
  std::vector<Bounded> out(static_cast<size_t>(c + 1));
  for (size_t i = 0; i < picks.indices.size(); i++) {
    const Bounded& w = picks.weights[i];
    const ExpertKind kind = args.experts.kind_of(picks.indices[i]);
    const int64_t j = args.experts.rank_in_kind(picks.indices[i]);
    if (kind == ExpertKind::kCopy) {
      out[0].value += input_scale * w.value;
      out[0].tolerance += input_scale * w.tolerance;
    }
    if (kind != ExpertKind::kConstant) continue;
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
  const int64_t picks = args.expert_indices->elements();
  const int32_t* indices = args.expert_indices->i32();
  int32_t row = 0, n = 0;
  for (int32_t expert = 0; expert < args.experts.experts; expert++) {
    if (args.experts.kind_of(expert) != ExpertKind::kFfn) continue;
    if (args.expert_offsets->i32()[n++] != row)
      return "expert_offsets[" + std::to_string(n - 1) + "] differs";
    for (int64_t i = 0; i < picks; i++) {
      if (indices[i] != expert) continue;
      if (args.token_order->i32()[row] != i || args.expert_rows->i32()[i] != row)
        return "row " + std::to_string(row) + " differs";
      row++;
    }
  }
  if (args.expert_offsets->i32()[n] != row) return "the last of expert_offsets differs";
  for (int64_t i = 0; i < picks; i++) {
    if (args.experts.kind_of(indices[i]) != ExpertKind::kFfn && args.expert_rows->i32()[i] != -1)
      return "expert_rows[" + std::to_string(i) + "] is not -1";
  }
  return {};
}

// The fault in one token's choice of experts. Any will do if rounding decides the groups.
static std::string bad_choice(const RouteTopKArgs& args, int64_t t,
                              const std::vector<Bounded>& scores) {
  const int64_t k = args.expert_indices->shape[1];
  const int32_t* picks = args.expert_indices->i32() + t * k;
  if (!by_choice(args)) {
    const std::vector<int32_t> expected = largest_logits(args, t);
    return std::equal(expected.begin(), expected.end(), picks) ? "" : " differ";
  }
  std::vector<Bounded> choices = choices_of(args, scores);
  if (args.groups > 1 && !keep_groups(args, &choices))
    for (Bounded& c : choices) c.tolerance = HUGE_VAL;
  return bad_order(choices, picks, k);
}

std::string check_route_top_k(const RouteTopKArgs& args) {
  const int64_t tokens = args.logits->shape[0], k = args.expert_indices->shape[1],
                c = args.coefficients->shape[1] - 1;
  for (int64_t t = 0; t < tokens; t++) {
    const std::vector<Bounded> scores = score(args, t);
    const std::string bad = bad_choice(args, t, scores);
    if (!bad.empty()) return "expert_indices[" + std::to_string(t) + "]" + bad;
    const int32_t* indices = args.expert_indices->i32() + t * k;
    Picks picks = {std::vector<int32_t>(indices, indices + k), {}};
    picks.weights = weigh(args, t, picks.indices, scores);
    std::string text = difference(args.expert_weights->f32() + t * k, picks.weights);
    if (!text.empty()) return "expert_weights[" + std::to_string(t) + "]" + text;
    text = difference(args.coefficients->f32() + t * (c + 1), collapse(args, t, picks));
    if (!text.empty()) return "coefficients[" + std::to_string(t) + "]" + text;
  }
  return check_order(args);
}

std::string check_norm_route_top_k(const NormRouteTopKArgs& args, const Tokens& tokens) {
  std::string text = check_rms_norm(args.norm, tokens);
  if (text.empty()) text = check_router_logits(args.router, tokens);
  return text.empty() ? check_route_top_k(args.route) : text;
}

}  // namespace moepp::test
