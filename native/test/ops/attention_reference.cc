#include <cmath>

#include "op_test.h"

namespace moepp::test {

namespace {

// One row: the softmax over all its keys at once, where the kernel goes page by page. Errors, to
// first order (the factor 1.01 covers the rest):
//   a key's weight   its score's error, the rounding of score - highest, two units of exp, and four
//                    roundings for each time that the running maximum changes
//   weighted sum     a sum's error, and so the total
std::vector<Bounded> attend(const AttentionArgs& args, int64_t t, int64_t head,
                            const AttentionErrors& kernel) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.key_dim, hq = args.q->shape[1], kv_head = head / (hq / kv.kv_heads),
                limit = args.positions->i32()[t] + 1,
                begin = args.window > 0 ? std::max<int64_t>(0, limit - args.window) : 0,
                n = limit - begin;  // keys begin .. limit - 1
  const Context context(args, t);
  const float* q = args.q->f32() + (t * hq + head) * d;
  const double scale = static_cast<double>(args.scale),
               changes =
                   static_cast<double>((n + kernel.keys - 1) / kernel.keys + (begin > 0 ? 1 : 0));
  std::vector<double> weights(static_cast<size_t>(n)), errors(static_cast<size_t>(n));
  double highest = -HUGE_VAL, lowest = HUGE_VAL, total = 0.0;
  for (size_t s = 0; s < weights.size(); s++) {
    double magnitude = 0.0;
    for (int64_t i = 0; i < d; i++) {
      const double product =
          scale * value(q, i) * context.key(kv_head, begin + static_cast<int64_t>(s), i);
      weights[s] += product;
      magnitude += std::abs(product);
    }
    errors[s] = sum_error(d + 3, magnitude) + kernel.query_roundoff * magnitude;
    highest = std::max(highest, weights[s]);
    lowest = std::min(lowest, weights[s]);
  }
  for (size_t s = 0; s < weights.size(); s++) {
    errors[s] +=
        kRoundoff * (2.0 * (highest - lowest) + 8.0 + 4.0 * changes) + kernel.weight_roundoff;
    weights[s] = std::exp(weights[s] - highest);
    total += weights[s];
  }
  double total_error = sum_error(n, total);
  for (size_t s = 0; s < weights.size(); s++) total_error += errors[s] * weights[s];
  std::vector<Bounded> out;
  for (int64_t i = 0; i < args.out->shape[1] / hq; i++) {
    double sum = 0.0, magnitude = 0.0, error = 0.0;
    for (size_t s = 0; s < weights.size(); s++) {
      const double product =
          weights[s] * context.value(kv_head, begin + static_cast<int64_t>(s), i);
      sum += product;
      magnitude += std::abs(product);
      error += errors[s] * std::abs(product);
    }
    const double y = sum / total;
    error =
        (error + sum_error(n, magnitude)) / total + std::abs(y) * (total_error / total + kRoundoff);
    out.push_back({y, 1.01 * error + kSmallest * static_cast<double>(n)});
  }
  return out;
}

}  // namespace

bool fit_tensor_cores(int64_t d, int64_t values) {
  return d == values && d >= 64 && d <= 128 && d % 16 == 0;
}

// A GPU takes chunks of 64 keys; its tensor cores round as bf16 products on a CPU do. A CPU takes
// pages.
AttentionErrors attention_errors(const Device& device, const KvView& cache) {
  const std::string isa = device.info().isa;
  const bool is_cpu = device.uses_mapped_weights();
  bool rounds = false;
  if (is_cpu) {
    for (const cpu::Isa& one : cpu::available_isas())
      rounds |= one.name == isa && one.multiplies_pairs;
  } else {
    const bool fits = cache.holds_latents() ? cache.key_dim == kMlaDim
                                            : fit_tensor_cores(cache.key_dim, cache.value_dim);
    rounds = fits && isa != "sm_75";
  }
  const double roundoff = rounds && cache.dtype == DType::kBf16 ? kBf16Roundoff : 0.0;
  return {is_cpu ? cache.page_size : 64, roundoff, roundoff};
}

std::string check_attention(const AttentionArgs& args, const Tokens& tokens,
                            const AttentionErrors& errors) {
  const int64_t hq = args.q->shape[1], d = args.out->shape[1] / hq;
  for (int64_t t : tokens) {
    for (int64_t head = 0; head < hq; head++) {
      const std::string text =
          difference(args.out->f32() + (t * hq + head) * d, attend(args, t, head, errors));
      if (!text.empty())
        return "out[" + std::to_string(t) + "][" + std::to_string(head) + "]" + text;
    }
  }
  return {};
}

}  // namespace moepp::test
