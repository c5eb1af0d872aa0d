#pragma once
#include "rows.inl.h"

// The K largest logits of one token, the higher first, equal ones in ascending order of index. A
// NaN counts as minus infinity, so that indices are always K different experts.
inline void pick_experts(const float* logits, int64_t e, int64_t k, int32_t* picks) {
  const auto key = [&](int64_t i) {
    return logits[i] == logits[i] ? logits[i] : -__builtin_inff();
  };
  int64_t count = 0;
  for (int64_t i = 0; i < e; i++) {
    const float value = key(i);
    if (count == k && !(value > key(picks[k - 1]))) continue;
    int64_t place = count < k ? count++ : k - 1;
    for (; place > 0 && value > key(picks[place - 1]); place--) picks[place] = picks[place - 1];
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

// The softmax over all E, divided by the sum of the picks, is the softmax over the picks. A NaN
// among the logits makes the weights NaN, as a softmax over all E does.
inline void weigh_picks(const RouteTopKArgs& args, const float* logits, int64_t e, int64_t k,
                        const int32_t* picks, float* weights) {
  const double scale = logit_scale(logits, e, args.norm_std);
  bool nan = false;
  for (int64_t i = 0; i < e; i++) nan |= logits[i] != logits[i];
  float total = 0.0f;
  int64_t others = 0;
  for (int64_t i = 0; i < k; i++) {
    const double below =
        (static_cast<double>(logits[picks[i]]) - static_cast<double>(logits[picks[0]])) * scale;
    const bool dropped = picks[i] == e - 1 && !args.mixtral;  // the zero expert
    weights[i] = dropped ? 0.0f : exp(static_cast<float>(below));
    total += weights[i];
    others += dropped ? 0 : 1;
  }
  for (int64_t i = 0; i < k; i++) {
    if (nan) {
      weights[i] = __builtin_nanf("");
    } else if (total == 0.0f) {
      weights[i] = picks[i] == e - 1 || others == 0 ? 0.0f : 1.0f / static_cast<float>(others);
    } else {
      weights[i] = weights[i] / total;
    }
  }
}

// The coefficients of one token's zero-computation picks: {cx, c_1 .. c_C}.
inline void collapse_picks(const RouteTopKArgs& args, int64_t t, int64_t e, int64_t c, int64_t k) {
  const int64_t n = e - c - 2;
  const int32_t* picks = args.expert_indices->i32() + t * k;
  const float* weights = args.expert_weights->f32() + t * k;
  float* coefficients = args.coefficients->f32() + t * (c + 1);
  for (int64_t i = 0; i <= c; i++) coefficients[i] = 0.0f;
  for (int64_t i = 0; i < k; i++) {
    const int64_t constant = picks[i] - n;
    if (constant < 0 || constant == c + 1) continue;
    if (constant == c) {
      coefficients[0] += weights[i];
      continue;
    }
    const float* scores = args.constant_scores->f32() + t * 2 * c + 2 * constant;
    const float up =
        static_cast<float>((static_cast<double>(scores[1]) - static_cast<double>(scores[0])) *
                           static_cast<double>(args.input_scale));
    // e^up may be infinity, which is right
    coefficients[0] += weights[i] * (1.0f / (1.0f + exp(up)));
    coefficients[1 + constant] = weights[i] * (1.0f / (1.0f + exp(-up)));
  }
  coefficients[0] *= args.input_scale;
}

// Sorts the FFN picks by expert, in the order of t, then k. While rows are dealt out, offsets[n] is
// expert n's next row.
inline void sort_picks(const RouteTopKArgs& args, int64_t picks, int64_t n) {
  const int32_t* experts = args.expert_indices->i32();
  int32_t* offsets = args.expert_offsets->i32();
  for (int64_t i = 0; i <= n; i++) offsets[i] = 0;
  for (int64_t i = 0; i < picks; i++) {
    if (experts[i] < n) offsets[experts[i] + 1]++;
  }
  for (int64_t i = 0; i < n; i++) offsets[i + 1] += offsets[i];
  for (int64_t i = 0; i < picks; i++) {
    const int32_t row = experts[i] < n ? offsets[experts[i]]++ : -1;
    args.expert_rows->i32()[i] = row;
    if (row >= 0) args.token_order->i32()[row] = static_cast<int32_t>(i);
  }
  for (int64_t i = n; i > 0; i--) offsets[i] = offsets[i - 1];
  offsets[0] = 0;
}

// The picks of the tokens [first, last), not sorted yet.
inline void route_rows(const RouteTopKArgs& args, int64_t first, int64_t last) {
  const int64_t e = args.logits->shape[1], c = args.constant_scores->shape[1] / 2,
                k = args.expert_indices->shape[1];
  for (int64_t t = first; t < last; t++) {
    const float* logits = args.logits->f32() + t * e;
    int32_t* picks = args.expert_indices->i32() + t * k;
    pick_experts(logits, e, k, picks);
    weigh_picks(args, logits, e, k, picks, args.expert_weights->f32() + t * k);
    collapse_picks(args, t, e, c, k);
  }
}

inline void route_top_k(const RouteTopKArgs& args, Queue& queue) {
  const int64_t tokens = args.logits->shape[0], e = args.logits->shape[1];
  // the work on a logit takes the time of about that many bytes
  constexpr int64_t kBytesPerLogit = 40;
  for_row_blocks(queue, tokens, kBytesPerLogit * e,
                 [&](int64_t first, int64_t last) { route_rows(args, first, last); });
  sort_picks(args, tokens * args.expert_indices->shape[1], args.expert_offsets->shape[0] - 1);
}
