// The references of the rotary embeddings and of attention.
#include <algorithm>

#include "cpu/kv_layout.h"
#include "reference.h"

namespace moepp::test {

static double value(const float* p, int64_t i) {
  return static_cast<double>(p[i]);
}

static int64_t sequence_of(const Tensor& starts, int64_t t) {
  int64_t b = 0;
  while (starts.i32()[b + 1] <= t) b++;
  return b;
}

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

std::string check_rope_table(const RopeTableArgs& args, const Tokens& tokens) {
  const int64_t count = args.frequencies->shape[1];
  for (int64_t t : tokens) {
    const int64_t b = sequence_of(*args.sequence_starts, t);
    const float position = static_cast<float>(args.positions->i32()[t]) / args.position_divisor;
    std::vector<Bounded> cosine, sine;
    for (int64_t j = 0; j < count; j++) {
      const float angle = position * args.frequencies->f32()[b * count + j];  // the contract's f32
      const double c = std::cos(static_cast<double>(angle)),
                   s = std::sin(static_cast<double>(angle));
      cosine.push_back({c, 2.0 * kRoundoff * std::abs(c)});  // one unit in the last place
      sine.push_back({s, 2.0 * kRoundoff * std::abs(s)});
    }
    const std::string c = difference(args.cosine->f32() + t * count, cosine),
                      s = difference(args.sine->f32() + t * count, sine);
    if (!c.empty()) return "cosine[" + std::to_string(t) + "]" + c;
    if (!s.empty()) return "sine[" + std::to_string(t) + "]" + s;
  }
  return {};
}

// Dimension i of u, rotated.
static Bounded rotated(const float* u, const float* cosine, const float* sine, int64_t d,
                       int64_t i) {
  const int64_t half = d / 2, j = i % half;
  const double a = value(u, i) * value(cosine, j);
  const double b = value(u, i < half ? i + half : i - half) * value(sine, j);
  return {i < half ? a - b : a + b,
          2.0 * kRoundoff * (std::abs(a) + std::abs(b)) + 4.0 * kSmallest * kRoundoff};
}

std::string check_rope_store(const RopeStoreArgs& args, const Tokens& tokens) {
  const KvView& kv = *args.cache;
  const int64_t d = kv.head_dim, hq = args.q->shape[1], hkv = kv.kv_heads,
                width = (hq + 2 * hkv) * d;
  for (int64_t t : tokens) {
    const int64_t position = args.positions->i32()[t];
    const int32_t* pages =
        args.page_table->i32() + sequence_of(*args.sequence_starts, t) * args.page_table->shape[1];
    const float* cosine = args.cosine->f32() + t * (d / 2);
    const float* sine = args.sine->f32() + t * (d / 2);
    for (int64_t head = 0; head < hq + 2 * hkv; head++) {
      const float* u = args.qkv->f32() + t * width + head * d;
      for (int64_t i = 0; i < d; i++) {
        Bounded expected =
            head < hq + hkv ? rotated(u, cosine, sine, d, i) : Bounded{value(u, i), 0.0};
        double actual;
        if (head < hq) {
          actual = value(args.q->f32(), (t * hq + head) * d + i);
        } else {
          const bool key = head < hq + hkv;
          actual = cache_element(
              kv, key ? key_index(kv, args.layer, pages, position, head - hq, i)
                      : value_index(kv, args.layer, pages, position, head - hq - hkv, i));
          if (kv.dtype == DType::kBf16 && !key)
            expected.value = static_cast<double>(bf16_to_f32(f32_to_bf16(u[i])));
          if (kv.dtype == DType::kBf16 && key) {
            expected.tolerance +=
                kBf16Roundoff * (std::abs(expected.value) + expected.tolerance) + 0x1p-134;
          }
        }
        const std::string text = difference(static_cast<float>(actual), expected);
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
  const int64_t d = kv.head_dim, hq = args.q->shape[1], kv_head = head / (hq / kv.kv_heads),
                n = args.positions->i32()[t] + 1;
  const int32_t* pages =
      args.page_table->i32() + sequence_of(*args.sequence_starts, t) * args.page_table->shape[1];
  const float* q = args.q->f32() + (t * hq + head) * d;
  const int64_t keys = kernel.keys > 0 ? kernel.keys : kv.page_size;
  const double scale = static_cast<double>(args.scale),
               changes = static_cast<double>((n + keys - 1) / keys);
  std::vector<double> weights(static_cast<size_t>(n)), errors(static_cast<size_t>(n));
  double highest = -HUGE_VAL, lowest = HUGE_VAL, total = 0.0;
  for (size_t s = 0; s < weights.size(); s++) {
    double magnitude = 0.0;
    for (int64_t i = 0; i < d; i++) {
      const double product =
          scale * value(q, i) *
          cache_element(kv, key_index(kv, args.layer, pages, static_cast<int64_t>(s), kv_head, i));
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
  for (int64_t i = 0; i < d; i++) {
    double sum = 0.0, magnitude = 0.0, error = 0.0;
    for (size_t s = 0; s < weights.size(); s++) {
      const double product =
          weights[s] * cache_element(kv, value_index(kv, args.layer, pages, static_cast<int64_t>(s),
                                                     kv_head, i));
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
  const int64_t hq = args.q->shape[1], d = args.q->shape[2];
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
