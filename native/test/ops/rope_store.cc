#include "bench.h"
#include "op_test.h"

namespace moepp::test {

namespace {

// A head of q or k, normed if there is a weight. The sum of squares, the mean, eps, root and
// quotient, and the two products: each relative error counts half in the root.
std::vector<Bounded> normed(const RopeStoreArgs& args, const float* u, const Tensor* weight) {
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
Bounded rotated(const RopeStoreArgs& args, const std::vector<Bounded>& u, int64_t t, int64_t i) {
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
std::vector<Bounded> stored_head(const RopeStoreArgs& args, int64_t t, int64_t head) {
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

}  // namespace

std::string check_rope_store(const RopeStoreArgs& args, const Tokens& tokens) {
  const KvView& kv = *args.cache;
  const int64_t hq = args.q->shape[1], hkv = kv.kv_heads;
  for (int64_t t : tokens) {
    const int64_t position = args.positions->i32()[t];
    const Context context(args, t);
    for (int64_t head = 0; head < hq + 2 * hkv; head++) {
      const std::vector<Bounded> expected = stored_head(args, t, head);
      for (int64_t i = 0; i < static_cast<int64_t>(expected.size()); i++) {
        const double actual = head < hq ? value(args.q->f32(), (t * hq + head) * kv.key_dim + i)
                              : head < hq + hkv ? context.key(head - hq, position, i)
                                                : context.value(head - hq - hkv, position, i);
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

namespace {

struct Case {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
  int64_t pairs = 0;  // rotated ones; 0: d / 2
  bool normed = false, interleaved = false;
  int64_t value_d = 0;  // 0: d

  int64_t rotated() const { return pairs > 0 ? pairs : d / 2; }
  int64_t values() const { return value_d > 0 ? value_d : d; }
  int64_t columns() const { return (hq + hkv) * d + hkv * values(); }
  std::string name() const {
    return std::to_string(hq) + "/" + std::to_string(hkv) + " x " + std::to_string(d) + ", " +
           std::to_string(rotated()) + " pairs" + (interleaved ? " interleaved" : "") +
           (normed ? ", normed" : "") + ", values " + std::to_string(values()) + ", S " +
           std::to_string(page_size);
  }
};

// Every kind; halves and parts of odd sizes; groups of 1, 2, 3 and 8.
std::vector<Case> all_kinds() {
  constexpr int64_t kHeads[][2] = {{2, 2}, {4, 2}, {3, 1}, {8, 1}};
  std::vector<Case> cases;
  int64_t number = 0;
  for (const int64_t d : {32, 64, 96, 128, 256, 30, 34}) {
    for (int kind = 1; kind < 8; kind++, number++) {
      const auto& [hq, hkv] = kHeads[number % 4];
      const int64_t part = number % 3 == 0 ? 1 : number % 3 == 1 ? d / 4 : d / 2 - 1;
      cases.push_back({hq,
                       hkv,
                       d,
                       16,
                       {{number % 19, 5}, {15, 2}},
                       (kind & 1) != 0 ? part : 0,
                       (kind & 2) != 0,
                       (kind & 4) != 0});
    }
  }
  return cases;
}

const std::vector<Case> kCases = {{1, 1, 2, 16, {{0, 1}}},
                                  {2, 1, 4, 16, {{5, 0}}},
                                  {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                  {4, 2, 48, 32, {{30, 40}, {0, 17}}},
                                  {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}}},
                                  {2, 1, 256, 16, {{7, 33}}},
                                  {32, 4, 128, 64, {{62, 3}, {5, 1}}},
                                  {4, 2, 48, 32, {{30, 9}}, 0, false, false, 32},
                                  {3, 1, 64, 16, {{30, 9}}, 5, true, true, 130}};

constexpr int32_t kLayer = 1;

struct Data {
  const PagedStep step;
  PagedInts ints;
  Cache cache;
  Floats qkv, cosine, sine, q_norm, k_norm, q;
  RopeStoreArgs args = {};

  Data(Arena& arena, const Case& c, DType dtype)
      : step(c.sequences, c.page_size),
        ints(arena, step),
        cache(arena, {nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d, c.values()}),
        qkv(arena, {step.tokens, c.columns()}, 1),
        cosine(arena, {step.tokens, c.rotated()}, 2),
        sine(arena, {step.tokens, c.rotated()}, 3),
        q_norm(arena, {c.d}, 4),
        k_norm(arena, {c.d}, 5),
        q(arena, {step.tokens, c.hq, c.d}) {
    args = {&qkv.tensor,
            &cosine.tensor,
            &sine.tensor,
            &ints.positions.tensor,
            &ints.starts.tensor,
            &ints.page_table.tensor,
            &cache.view,
            &q.tensor,
            kLayer};
    if (c.normed) args.q_norm = &q_norm.tensor, args.k_norm = &k_norm.tensor, args.eps = 1e-3f;
    args.interleaved = c.interleaved;
  }
};

void expect_stored(OpTest& on, const Case& c) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    on.start(c.name() + " " + dtype_name(dtype));
    Data d(on, c, dtype);
    const int64_t t = d.step.tokens;
    on.expect(d.args, [&](const RopeStoreArgs& a) { return check_rope_store(a, all(t)); });
    on.require(d.cache.numbers() == t * c.hkv * (c.d + c.values()),
               "touched another token's element");
    const auto cut = [&](RopeStoreArgs& a, int64_t row) { d.ints.cut(a, row); };
    if (t > 0) on.expect_rows_alone(d.args, {d.step.ends()}, cut);
  }
}

MOEPP_OP_TEST(rope_store) {
  for (const Case& c : kCases) expect_stored(on, c);
}

MOEPP_OP_TEST(rope_store_of_every_kind) {
  for (const Case& c : all_kinds()) expect_stored(on, c);
}

// Once per layer of a step.
void rows(bench::Run& run, DType dtype, const bench::Heads& h, bool normed) {
  for (const int64_t t : run.sizes.step_tokens) {
    const Case c = {h.query, h.kv, h.dim, run.sizes.page_size, {{0, t}}, 0, normed};
    Data d(run, c, dtype);
    const int64_t read = 4 * c.columns(),
                  written = 4 * h.query * h.dim + 2 * h.kv * h.dim * dtype_size(dtype);
    const std::string shared = h.kv < h.query ? "/" + std::to_string(h.kv) : "";
    run.op_row({"rope_store " + std::to_string(h.query) + shared + " x " + std::to_string(h.dim) +
                    (normed ? ", normed" : ""),
                dtype,
                t,
                {static_cast<double>(t * read), static_cast<double>(t * written)}},
               d.args, [&](const RopeStoreArgs& a) { return check_rope_store(a, sample(t, 50)); });
  }
}

MOEPP_BENCH(rope_store_bf16) {
  rows(run, DType::kBf16, run.sizes.plain(), false);
}
MOEPP_BENCH(rope_store_f32) {
  rows(run, DType::kF32, run.sizes.plain(), false);
}
MOEPP_BENCH(rope_store_grouped_bf16) {
  rows(run, DType::kBf16, run.sizes.grouped, true);
}
MOEPP_BENCH(rope_store_grouped_f32) {
  rows(run, DType::kF32, run.sizes.grouped, true);
}

}  // namespace
}  // namespace moepp::test
