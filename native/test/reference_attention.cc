// The references of the rotary embeddings and of attention.
#include <algorithm>

#include "cpu/kv_layout.h"
#include "paged_step.h"
#include "reference.h"

namespace moepp::test {

double cache_element(const KvView& cache, int64_t index) {
  if (cache.dtype == DType::kF32) return value(static_cast<const float*>(cache.data), index);
  return static_cast<double>(bf16_to_f32(static_cast<const uint16_t*>(cache.data)[index]));
}

// The index in the cache of dimension i of the key (or value) of the position.
static int64_t key_index(const KvView& kv, int64_t layer, const int32_t* pages, int64_t position,
                         int64_t head, int64_t i) {
  return cpu::kv_keys(kv, layer, pages[position / kv.page_size], head) +
         cpu::kv_key(kv, position % kv.page_size, i);
}
static int64_t value_index(const KvView& kv, int64_t layer, const int32_t* pages, int64_t position,
                           int64_t head, int64_t i) {
  return cpu::kv_values(kv, layer, pages[position / kv.page_size], head) +
         cpu::kv_value(kv, position % kv.page_size, i);
}

// A head of q or k, normed if there is a weight. The sum of squares, the mean, eps, root and
// quotient, and the two products: each relative error counts half in the root.
static std::vector<Bounded> normed(const RopeStoreArgs& args, const float* u,
                                   const Tensor* weight) {
  const int64_t d = args.q->shape[2];
  double squares = 0.0;
  for (int64_t i = 0; i < d; i++) squares += value(u, i) * value(u, i);
  const double mean = squares / static_cast<double>(d),
               scale = 1.0 / std::sqrt(mean + static_cast<double>(args.eps)),
               relative = static_cast<double>(d + 1) / 2.0 * kRoundoff + 6.0 * kRoundoff;
  std::vector<Bounded> out;
  for (int64_t i = 0; i < d; i++) {
    const double y =
        weight == nullptr ? value(u, i) : value(u, i) * scale * value(weight->f32(), i);
    out.push_back({y, weight == nullptr ? 0.0 : relative * std::abs(y) + kSmallest * kRoundoff});
  }
  return out;
}

// Dimension i of a head u, rotated.
static Bounded rotated(const RopeStoreArgs& args, const std::vector<Bounded>& u, int64_t t,
                       int64_t i) {
  const int64_t half = args.cosine->shape[1], j = i % half;
  if (i >= 2 * half) return u[static_cast<size_t>(i)];
  const auto at = [&](int64_t k) { return u[static_cast<size_t>(k)]; };
  const Bounded a = args.interleaved ? at(2 * j) : at(j),
                b = args.interleaved ? at(2 * j + 1) : at(j + half);
  const double c = value(args.cosine->f32(), t * half + j),
               s = value(args.sine->f32(), t * half + j);
  const double first = i < half ? a.value * c : b.value * c,
               second = i < half ? -b.value * s : a.value * s;
  const double carried = i < half ? a.tolerance * std::abs(c) + b.tolerance * std::abs(s)
                                  : b.tolerance * std::abs(c) + a.tolerance * std::abs(s);
  return {first + second, carried +
                              2.0 * kRoundoff * (std::abs(first) + std::abs(second) + carried) +
                              4.0 * kSmallest * kRoundoff};
}

// Head `head` of token t as the op writes it: a query, a key or a value.
static std::vector<Bounded> stored_head(const RopeStoreArgs& args, int64_t t, int64_t head) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.key_dim, hq = args.q->shape[1], hkv = kv.kv_heads,
                width = (hq + hkv) * d + hkv * kv.value_dim;
  const float* row = args.qkv->f32() + t * width;
  std::vector<Bounded> out;
  if (head >= hq + hkv) {
    const float* v = row + (hq + hkv) * d + (head - hq - hkv) * kv.value_dim;
    for (int64_t i = 0; i < kv.value_dim; i++) {
      out.push_back({kv.dtype == DType::kBf16 ? static_cast<double>(bf16_to_f32(f32_to_bf16(v[i])))
                                              : value(v, i),
                     0.0});
    }
    return out;
  }
  const auto u = normed(args, row + head * d, head < hq ? args.q_norm : args.k_norm);
  for (int64_t i = 0; i < d; i++) {
    Bounded one = rotated(args, u, t, i);
    if (kv.dtype == DType::kBf16 && head >= hq)
      one.tolerance += kBf16Roundoff * (std::abs(one.value) + one.tolerance) + 0x1p-134;
    out.push_back(one);
  }
  return out;
}

std::string check_rope_store(const RopeStoreArgs& args, const Tokens& tokens) {
  const KvView& kv = *args.cache;
  const int64_t hq = args.q->shape[1], hkv = kv.kv_heads;
  for (int64_t t : tokens) {
    const int64_t position = args.positions->i32()[t];
    const int32_t* pages =
        args.page_table->i32() + sequence_of(*args.sequence_starts, t) * args.page_table->shape[1];
    for (int64_t head = 0; head < hq + 2 * hkv; head++) {
      const std::vector<Bounded> expected = stored_head(args, t, head);
      for (int64_t i = 0; i < static_cast<int64_t>(expected.size()); i++) {
        const double actual =
            head < hq ? value(args.q->f32(), (t * hq + head) * kv.key_dim + i)
            : head < hq + hkv
                ? cache_element(kv, key_index(kv, args.layer, pages, position, head - hq, i))
                : cache_element(kv,
                                value_index(kv, args.layer, pages, position, head - hq - hkv, i));
        const std::string text =
            difference(static_cast<float>(actual), expected[static_cast<size_t>(i)]);
        if (!text.empty()) {
          return "token " + std::to_string(t) + " head " + std::to_string(head) + "[" +
                 std::to_string(i) + "] is " + text;
        }
      }
    }
  }
  return {};
}

AttentionErrors cpu_attention_errors(const cpu::Isa& isa, DType cache) {
  const bool rounds = isa.multiplies_pairs && cache == DType::kBf16;
  return {0, rounds ? kBf16Roundoff : 0.0, rounds ? kBf16Roundoff : 0.0};
}

// One row: the softmax over all its keys at once, where the kernel goes page by page. Errors, to
// first order (the factor 1.01 covers the rest):
//   a key's weight   its score's error, the rounding of score - highest, two units of exp, and four
//                    roundings for each time that the running maximum changes
//   weighted sum     a sum's error, and so the total
static std::vector<Bounded> attend(const AttentionArgs& args, int64_t t, int64_t head,
                                   const AttentionErrors& kernel) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.key_dim, hq = args.q->shape[1], kv_head = head / (hq / kv.kv_heads),
                limit = args.positions->i32()[t] + 1,
                begin = args.window > 0 ? std::max<int64_t>(0, limit - args.window) : 0,
                n = limit - begin;  // keys begin .. limit - 1
  const int32_t* pages =
      args.page_table->i32() + sequence_of(*args.sequence_starts, t) * args.page_table->shape[1];
  const float* q = args.q->f32() + (t * hq + head) * d;
  const int64_t keys = kernel.keys > 0 ? kernel.keys : kv.page_size;
  const double scale = static_cast<double>(args.scale),
               changes = static_cast<double>((n + keys - 1) / keys + (begin > 0 ? 1 : 0));
  std::vector<double> weights(static_cast<size_t>(n)), errors(static_cast<size_t>(n));
  double highest = -HUGE_VAL, lowest = HUGE_VAL, total = 0.0;
  for (size_t s = 0; s < weights.size(); s++) {
    double magnitude = 0.0;
    for (int64_t i = 0; i < d; i++) {
      const double product =
          scale * value(q, i) *
          cache_element(
              kv, key_index(kv, args.layer, pages, begin + static_cast<int64_t>(s), kv_head, i));
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
  for (int64_t i = 0; i < kv.value_dim; i++) {
    double sum = 0.0, magnitude = 0.0, error = 0.0;
    for (size_t s = 0; s < weights.size(); s++) {
      const double product =
          weights[s] * cache_element(kv, value_index(kv, args.layer, pages,
                                                     begin + static_cast<int64_t>(s), kv_head, i));
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

std::string check_attention(const AttentionArgs& args, const Tokens& tokens,
                            const AttentionErrors& errors) {
  const int64_t hq = args.q->shape[1], d = args.cache->value_dim;
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
