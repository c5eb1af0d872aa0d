#pragma once
#include "rows.inl.h"

// The loops of ops/route_top_k.h: gating by blocks of tokens for each thread, then the sort by one.
// The K largest are kept in order while one pass goes over the experts.

// The K largest values of one token, the higher first, equal ones in ascending order of index. A
// NaN counts as minus infinity, so that indices are always K different experts. Always inline: the
// compiler keeps it apart for its several callers, and short rows show the calls.
__attribute__((always_inline)) inline void pick_experts(const float* values, int64_t e, int64_t k,
                                                        int32_t* picks) {
  float best[kMostChosen];  // the values of picks
  int64_t count = 0;
  for (int64_t i = 0; i < e; i++) {
    const float value = values[i] == values[i] ? values[i] : -__builtin_inff();
    if (count == k && !(value > best[k - 1])) continue;
    int64_t place = count < k ? count++ : k - 1;
    for (; place > 0 && value > best[place - 1]; place--) {
      best[place] = best[place - 1];
      picks[place] = picks[place - 1];
    }
    best[place] = value;
    picks[place] = static_cast<int32_t>(i);
  }
}

// norm_std / unbiased standard deviation of the logits; 1 when there is no normalisation, or
// nothing to normalise. Two passes in f64: logits of any f32 scale keep their digits and cannot
// overflow.
inline double logit_scale(const float* logits, int64_t e, float norm_std) {
  if (norm_std == 0.0f || e < 2) return 1.0;
  double mean = 0.0, squares = 0.0;
  for (int64_t i = 0; i < e; i++) mean += static_cast<double>(logits[i]);
  mean /= static_cast<double>(e);
  for (int64_t i = 0; i < e; i++) {
    const double deviation = static_cast<double>(logits[i]) - mean;
    squares += deviation * deviation;
  }
  return squares == 0.0
             ? 1.0
             : static_cast<double>(norm_std) / __builtin_sqrt(squares / static_cast<double>(e - 1));
}

inline bool is_masked(const RouteTopKArgs& args, int64_t expert) {
  return args.masked && args.experts.kind_of(static_cast<int32_t>(expert)) != ExpertKind::kFfn;
}

// The logits with minus infinity for masked experts.
inline void mask_logits(const RouteTopKArgs& args, const float* logits, int64_t e, float* open) {
  for (int64_t i = 0; i < e; i++) open[i] = is_masked(args, i) ? -__builtin_inff() : logits[i];
}

// scores[i] = exp((open[i] - the highest) * scale) / their sum; NaN where all are minus infinity.
inline void softmax_scores(const float* open, int64_t e, double scale, float* scores) {
  float highest = -__builtin_inff();
  for (int64_t i = 0; i < e; i++) highest = open[i] > highest ? open[i] : highest;
  for (int64_t i = 0; i < e; i++) {
    scores[i] =
        static_cast<float>((static_cast<double>(open[i]) - static_cast<double>(highest)) * scale);
  }
  Vf total = set1(0.0f);
  for (int64_t i = 0; i < e; i += kLanes) {
    const int n = e - i < kLanes ? static_cast<int>(e - i) : kLanes;
    const Vf power = first_n(exp(load_n(scores + i, n)), n);
    store_n(scores + i, power, n);
    total = total + power;
  }
  const float all = sum(total);
  for (int64_t i = 0; i < e; i++) scores[i] = scores[i] / all;
}

inline void sigmoid_scores(const float* logits, int64_t e, double scale, float* scores) {
  for (int64_t i = 0; i < e; i++)
    scores[i] = -static_cast<float>(static_cast<double>(logits[i]) * scale);
  for (int64_t i = 0; i < e; i += kLanes) {
    const int n = e - i < kLanes ? static_cast<int>(e - i) : kLanes;
    store_n(scores + i, set1(1.0f) / (set1(1.0f) + exp(load_n(scores + i, n))), n);
  }
}

// g of every expert. `open` are the logits, of masked experts minus infinity.
inline void score_experts(const RouteTopKArgs& args, const float* open, int64_t e, double scale,
                          float* scores) {
  if (args.scores == Scores::kSigmoid) {
    sigmoid_scores(open, e, scale, scores);
  } else {
    softmax_scores(open, e, scale, scores);
  }
  for (int64_t i = 0; args.masked && i < e; i++) {
    if (is_masked(args, i)) scores[i] = 0.0f;
  }
}

// The choices outside the best groups become 0.
inline void keep_groups(const RouteTopKArgs& args, int64_t e, float* choices) {
  const int64_t size = e / args.groups;
  float best[32];  // ops/route_top_k.h: groups
  for (int64_t g = 0; g < args.groups; g++) {
    int32_t top[2];
    pick_experts(choices + g * size, size, 2, top);
    best[g] = choices[g * size + top[0]] + choices[g * size + top[1]];
    if (best[g] != best[g]) best[g] = -__builtin_inff();
  }
  for (int64_t g = 0; g < args.groups; g++) {
    int64_t better = 0;
    for (int64_t i = 0; i < args.groups; i++)
      better += best[i] > best[g] || (best[i] == best[g] && i < g) ? 1 : 0;
    for (int64_t i = 0; better >= args.top_groups && i < size; i++) choices[g * size + i] = 0.0f;
  }
}

// One token's picks, with what weighs and collapses them.
struct TokenPicks {
  int64_t k;
  const int32_t* experts;
  float* weights;
  ExpertRuns::Place places[kMostChosen];
};

inline bool has_no_weight(const RouteTopKArgs& args, ExpertKind kind) {
  return (args.drop_zero && kind == ExpertKind::kZero) || (args.masked && kind != ExpertKind::kFfn);
}

// The softmax over all E, divided by the sum of the picks, is the softmax over the picks.
__attribute__((always_inline)) inline void weigh_by_logits(const RouteTopKArgs& args,
                                                           const float* logits, double scale,
                                                           const TokenPicks& picks) {
  for (int64_t i = 0; i < picks.k; i++) {
    const double below = (static_cast<double>(logits[picks.experts[i]]) -
                          static_cast<double>(logits[picks.experts[0]])) *
                         scale;
    picks.weights[i] =
        has_no_weight(args, picks.places[i].kind) ? 0.0f : exp(static_cast<float>(below));
  }
}

inline void normalise_weights(const RouteTopKArgs& args, const TokenPicks& picks) {
  float total = 0.0f;
  int64_t others = 0;
  for (int64_t i = 0; i < picks.k; i++) {
    total += picks.weights[i];
    others += has_no_weight(args, picks.places[i].kind) ? 0 : 1;
  }
  if (args.scores == Scores::kSigmoid) total += 1e-20f;
  for (int64_t i = 0; i < picks.k; i++) {
    if (total != 0.0f) {
      picks.weights[i] = picks.weights[i] / total;
    } else if (args.drop_zero && !has_no_weight(args, picks.places[i].kind)) {
      picks.weights[i] = 1.0f / static_cast<float>(others);
    }
  }
}

// The coefficients of one token's zero-computation picks: {cx, c_1 .. c_C}.
inline void collapse_picks(const RouteTopKArgs& args, int64_t t, const TokenPicks& picks) {
  const int64_t c = args.coefficients->shape[1] - 1;
  float* coefficients = args.coefficients->f32() + t * (c + 1);
  for (int64_t i = 0; i <= c; i++) coefficients[i] = 0.0f;
  for (int64_t i = 0; i < picks.k; i++) {
    if (picks.places[i].kind == ExpertKind::kFfn) continue;
    if (picks.places[i].kind == ExpertKind::kCopy) coefficients[0] += picks.weights[i];
    if (picks.places[i].kind != ExpertKind::kConstant) continue;
    const int64_t constant = picks.places[i].rank;
    const float* scores = args.constant_scores->f32() + t * 2 * c + 2 * constant;
    const float up =
        static_cast<float>((static_cast<double>(scores[1]) - static_cast<double>(scores[0])) *
                           static_cast<double>(args.input_scale));
    // e^up may be infinity, which is right
    coefficients[0] += picks.weights[i] * (1.0f / (1.0f + exp(up)));
    coefficients[1 + constant] = picks.weights[i] * (1.0f / (1.0f + exp(-up)));
  }
  coefficients[0] *= args.input_scale;
}

inline void place_picks(const RouteTopKArgs& args, TokenPicks* picks) {
  for (int64_t i = 0; i < picks->k; i++)
    picks->places[i] = args.experts.place_of(picks->experts[i]);
}

// Chooses one token's experts by their scores, or among those that no mask hides, and gives them
// their scores. Not inline: its arrays would be in the way of the gating that needs none.
__attribute__((noinline)) inline void choose_scored(const RouteTopKArgs& args, const float* logits,
                                                    int64_t e, int32_t* experts,
                                                    TokenPicks* picks) {
  float open[kMostExperts], scores[kMostExperts], choices[kMostExperts];
  const double scale = logit_scale(logits, e, args.norm_std);
  const float* bias = args.selection_bias != nullptr ? args.selection_bias->f32() : nullptr;
  const bool by_choice = bias != nullptr || args.groups > 1;
  if (args.masked) mask_logits(args, logits, e, open);
  const float* z = args.masked ? open : logits;
  score_experts(args, z, e, scale, scores);
  if (by_choice) {
    for (int64_t i = 0; i < e; i++) choices[i] = bias != nullptr ? scores[i] + bias[i] : scores[i];
    if (args.groups > 1) keep_groups(args, e, choices);
  }
  pick_experts(by_choice ? choices : z, e, picks->k, experts);
  place_picks(args, picks);
  for (int64_t i = 0; i < picks->k; i++)
    picks->weights[i] = has_no_weight(args, picks->places[i].kind) ? 0.0f : scores[experts[i]];
  if (args.scores == Scores::kSoftmax && args.normalise && !by_choice)
    weigh_by_logits(args, logits, scale, *picks);
}

// The same by the logits alone, where they decide: softmax over the chosen.
inline void choose_experts(const RouteTopKArgs& args, const float* logits, int64_t e,
                           int32_t* experts, TokenPicks* picks) {
  if (args.scores != Scores::kSoftmax || !args.normalise || args.masked || args.groups > 1 ||
      args.selection_bias != nullptr)
    return choose_scored(args, logits, e, experts, picks);
  // Before the picks: its long chains of sums go on while branches of the picks are guessed.
  const double scale = logit_scale(logits, e, args.norm_std);
  pick_experts(logits, e, picks->k, experts);
  place_picks(args, picks);
  weigh_by_logits(args, logits, scale, *picks);
}

// True if a logit is NaN that no mask hides.
inline bool has_nan(const RouteTopKArgs& args, const float* logits, int64_t e) {
  int32_t nans = 0;  // as wide as a logit, so that the compiler makes vectors of it
  for (int64_t i = 0; i < e; i++) nans += logits[i] != logits[i] ? 1 : 0;
  for (int64_t i = 0; args.masked && nans > 0 && i < e; i++)
    nans -= logits[i] != logits[i] && is_masked(args, i) ? 1 : 0;
  return nans > 0;
}

// One token's gating. Its expert_rows become the ranks of its FFN experts among their kind, or -1:
// what the sort counts.
inline void gate_token(const RouteTopKArgs& args, int64_t t) {
  const int64_t e = args.logits->shape[1], k = args.expert_indices->shape[1];
  const float* logits = args.logits->f32() + t * e;
  int32_t* experts = args.expert_indices->i32() + t * k;
  TokenPicks picks = {k, experts, args.expert_weights->f32() + t * k, {}};
  choose_experts(args, logits, e, experts, &picks);
  if (args.normalise) normalise_weights(args, picks);
  const bool nan = has_nan(args, logits, e);
  for (int64_t i = 0; i < k; i++) {
    picks.weights[i] = nan ? __builtin_nanf("") : picks.weights[i] * args.weight_scale;
    args.expert_rows->i32()[t * k + i] =
        picks.places[i].kind == ExpertKind::kFfn ? picks.places[i].rank : -1;
  }
  collapse_picks(args, t, picks);
}

// Sorts the FFN picks by expert, in the order of t, then k. While rows are dealt out, offsets[n] is
// FFN expert n's next row.
inline void sort_picks(const RouteTopKArgs& args) {
  const int64_t picks = args.expert_rows->elements(), n = args.expert_offsets->shape[0] - 1;
  int32_t *rows = args.expert_rows->i32(), *offsets = args.expert_offsets->i32();
  for (int64_t i = 0; i <= n; i++) offsets[i] = 0;
  for (int64_t i = 0; i < picks; i++) offsets[rows[i] + 1]++;
  offsets[0] = 0;  // the picks without a row
  for (int64_t i = 0; i < n; i++) offsets[i + 1] += offsets[i];
  for (int64_t i = 0; i < picks; i++) {
    if (rows[i] < 0) continue;
    rows[i] = offsets[rows[i]]++;
    args.token_order->i32()[rows[i]] = static_cast<int32_t>(i);
  }
  for (int64_t i = n; i > 0; i--) offsets[i] = offsets[i - 1];
  offsets[0] = 0;
}

// The picks of the tokens [first, last), not sorted yet.
inline void route_rows(const RouteTopKArgs& args, int64_t first, int64_t last) {
  for (int64_t t = first; t < last; t++) gate_token(args, t);
}

inline void route_top_k(const RouteTopKArgs& args, Queue& queue) {
  const int64_t tokens = args.logits->shape[0], e = args.logits->shape[1];
  // the work on a logit takes the time of about that many bytes
  constexpr int64_t kBytesPerLogit = 40;
  for_row_blocks(queue, tokens, kBytesPerLogit * e,
                 [&](int64_t first, int64_t last) { route_rows(args, first, last); });
  sort_picks(args);
}
