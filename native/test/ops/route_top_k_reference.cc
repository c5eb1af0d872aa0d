// The reference of route_top_k.
#include <algorithm>
#include <numeric>
#include <set>

#include "router.h"

namespace moepp::test {

namespace {

using Experts = std::vector<int32_t>;

constexpr double kExpUnderflow = -104.0;  // e^x is 0 in f32

double scale_of(const RouteTopKArgs& args, const float* logits, int64_t e) {
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

bool is_masked(const RouteTopKArgs& args, int64_t expert) {
  return args.masked && args.experts.kind_of(static_cast<int32_t>(expert)) != ExpertKind::kFfn;
}

bool has_no_weight(const RouteTopKArgs& args, int32_t expert) {
  return is_masked(args, expert) ||
         (args.drop_zero && args.experts.kind_of(expert) == ExpertKind::kZero);
}

// e^below: the rounding of `below`, and two units in the last place of exp.
Bounded power(double below) {
  const double value = below < kExpUnderflow ? 0.0 : std::exp(below);
  return {value, value * kRoundoff * (std::abs(below) + 4.0) + 2.0 * kSmallest * kRoundoff};
}

Bounded quotient(const Bounded& a, const Bounded& total) {
  return {a.value / total.value,
          1.01 * (a.tolerance / total.value +
                  a.value / total.value * (total.tolerance / total.value + kRoundoff)) +
              2.0 * kSmallest * kRoundoff};
}

Bounded sum_of(const std::vector<Bounded>& terms) {
  Bounded sum;
  for (const Bounded& term : terms) sum.value += term.value, sum.tolerance += term.tolerance;
  sum.tolerance += sum_error(static_cast<int64_t>(terms.size()), sum.value);
  return sum;
}

// g of every expert.
std::vector<Bounded> score(const RouteTopKArgs& args, int64_t t) {
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

bool by_choice(const RouteTopKArgs& args) {
  return args.selection_bias != nullptr || args.groups > 1;
}

// c of every expert before the groups.
std::vector<Bounded> choices_of(const RouteTopKArgs& args, std::vector<Bounded> c) {
  for (size_t i = 0; args.selection_bias != nullptr && i < c.size(); i++) {
    c[i].value += value(args.selection_bias->f32(), static_cast<int64_t>(i));
    c[i].tolerance += kRoundoff * (std::abs(c[i].value) + c[i].tolerance);
  }
  return c;
}

// Sets the c outside the best groups to 0. False where rounding may decide which groups are best.
bool keep_groups(const RouteTopKArgs& args, std::vector<Bounded>* c) {
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
std::string bad_order(const std::vector<Bounded>& c, const Experts& picks) {
  const auto before = [&](int32_t one, int32_t other) {
    const Bounded &a = c[static_cast<size_t>(one)], &b = c[static_cast<size_t>(other)];
    if (a.tolerance == HUGE_VAL) return true;
    if (a.value == b.value) return one < other;
    return a.value - b.value > -(a.tolerance + b.tolerance);
  };
  for (size_t i = 1; i < picks.size(); i++) {
    if (!before(picks[i - 1], picks[i])) return " are out of order";
  }
  for (int32_t i = 0; i < static_cast<int32_t>(c.size()); i++) {
    if (std::count(picks.begin(), picks.end(), i) == 0 && !before(picks.back(), i))
      return " leave one out";
  }
  return {};
}

// The picks by the order of the logits, exactly.
Experts largest_logits(const RouteTopKArgs& args, int64_t t) {
  const int64_t e = args.logits->shape[1];
  const float* logits = args.logits->f32() + t * e;
  Experts order(static_cast<size_t>(e));
  std::iota(order.begin(), order.end(), 0);
  const auto z = [&](int32_t i) { return is_masked(args, i) ? -HUGE_VAL : value(logits, i); };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return z(a) > z(b); });
  order.resize(static_cast<size_t>(args.expert_indices->shape[1]));
  return order;
}

// The weights before they are normalised. A softmax that all picks share needs no sum over all E.
std::vector<Bounded> first_weights(const RouteTopKArgs& args, int64_t t, const Experts& picks,
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

std::vector<Bounded> weigh(const RouteTopKArgs& args, int64_t t, const Experts& picks,
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
std::vector<Bounded> collapse(const RouteTopKArgs& args, int64_t t, const Experts& picks,
                              const std::vector<Bounded>& weights) {
  const int64_t c = args.coefficients->shape[1] - 1;
  const double input_scale = static_cast<double>(args.input_scale);
  std::vector<Bounded> out(static_cast<size_t>(c + 1));
  for (size_t i = 0; i < picks.size(); i++) {
    const Bounded& w = weights[i];
    const auto [kind, j] = args.experts.place_of(picks[i]);
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
  out[0].tolerance += sum_error(static_cast<int64_t>(picks.size()), out[0].value);
  return out;
}

Experts picks_of(const RouteTopKArgs& args, int64_t t) {
  const int64_t k = args.expert_indices->shape[1];
  return {args.expert_indices->i32() + t * k, args.expert_indices->i32() + (t + 1) * k};
}

// The fault in one token's choice of experts. Any will do if rounding decides the groups.
std::string bad_choice(const RouteTopKArgs& args, int64_t t, const std::vector<Bounded>& scores) {
  const Experts picks = picks_of(args, t);
  if (!by_choice(args)) return picks == largest_logits(args, t) ? "" : " differ";
  std::vector<Bounded> choices = choices_of(args, scores);
  if (args.groups > 1 && !keep_groups(args, &choices))
    for (Bounded& c : choices) c.tolerance = HUGE_VAL;
  return bad_order(choices, picks);
}

std::string bad_indices(const RouteTopKArgs& args) {
  for (int64_t t = 0; t < args.logits->shape[0]; t++) {
    const Experts picks = picks_of(args, t);
    const std::set<int32_t> set(picks.begin(), picks.end());
    if (set.size() != picks.size() || *set.begin() < 0 || *set.rbegin() >= args.experts.experts)
      return "expert_indices[" + std::to_string(t) + "] are no different experts";
  }
  return {};
}

}  // namespace

std::string check_gating(const RouteTopKArgs& args, int64_t t) {
  const int64_t k = args.expert_indices->shape[1], columns = args.coefficients->shape[1];
  const Experts picks = picks_of(args, t);
  const std::vector<Bounded> scores = score(args, t), weights = weigh(args, t, picks, scores);
  std::string text = at("expert_indices", t, bad_choice(args, t, scores));
  if (text.empty())
    text = at("expert_weights", t, difference(args.expert_weights->f32() + t * k, weights));
  if (!text.empty()) return text;
  return at("coefficients", t,
            difference(args.coefficients->f32() + t * columns, collapse(args, t, picks, weights)));
}

std::string check_sorted_picks(const RouteTopKArgs& args) {
  const std::string bad = bad_indices(args);
  if (!bad.empty()) return bad;
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

std::string check_route_top_k(const RouteTopKArgs& args) {
  std::string text = check_sorted_picks(args);
  for (int64_t t = 0; text.empty() && t < args.logits->shape[0]; t++) text = check_gating(args, t);
  return text;
}

}  // namespace moepp::test
