#include "bench.h"
#include "op_test.h"

namespace moepp::test {

namespace {

// The latent of token t: normed and scaled, with a bound as rope_store's norm has it, and one
// product more.
std::vector<Bounded> normed(const LatentStoreArgs& args, int64_t t) {
  const int64_t c = args.norm->shape[0];
  const float* u = args.latent->f32() + t * args.latent->shape[1];
  double squares = 0.0;
  for (int64_t i = 0; i < c; i++) squares += value(u, i) * value(u, i);
  const double mean = squares / static_cast<double>(c),
               scale = static_cast<double>(args.scale) /
                       std::sqrt(mean + static_cast<double>(args.eps)),
               relative = static_cast<double>(c + 1) / 2.0 * kRoundoff + 7.0 * kRoundoff;
  std::vector<Bounded> out;
  for (int64_t i = 0; i < c; i++) {
    const double y = value(u, i) * scale * value(args.norm->f32(), i);
    out.push_back({y, relative * std::abs(y) + kSmallest * kRoundoff});
  }
  return out;
}

// The 2J elements from u on, rotated.
std::vector<Bounded> rotated(const LatentStoreArgs& args, const float* u, int64_t t) {
  const int64_t half = args.cosine->shape[1];
  std::vector<Bounded> out;
  for (int64_t i = 0; i < 2 * half; i++) {
    const int64_t j = i % half;
    const double a = args.interleaved ? value(u, 2 * j) : value(u, j),
                 b = args.interleaved ? value(u, 2 * j + 1) : value(u, j + half),
                 c = value(args.cosine->f32(), t * half + j),
                 s = value(args.sine->f32(), t * half + j), first = i < half ? a * c : b * c,
                 second = i < half ? -b * s : a * s;
    out.push_back({first + second, 2.0 * kRoundoff * (std::abs(first) + std::abs(second)) +
                                       4.0 * kSmallest * kRoundoff});
  }
  return out;
}

std::string check_latent_store(const LatentStoreArgs& args, const Tokens& tokens) {
  const int64_t heads = args.out->shape[1], width = args.out->shape[2], c = args.norm->shape[0],
                rotated_d = args.latent->shape[1] - c, d = args.q->shape[1] / heads;
  for (const int64_t t : tokens) {
    std::vector<Bounded> expected = normed(args, t);
    for (const Bounded& one : rotated(args, args.latent->f32() + t * (c + rotated_d) + c, t))
      expected.push_back(one);
    if (c % 2 != 0) expected.push_back({0.0, 0.0});
    const Context context(args, t);
    std::vector<float> stored;
    for (int64_t i = 0; i < width; i++) {
      stored.push_back(static_cast<float>(context.key(0, args.positions->i32()[t], i)));
      Bounded& one = expected[static_cast<size_t>(i)];
      if (args.cache->dtype == DType::kBf16)
        one.tolerance += kBf16Roundoff * (std::abs(one.value) + one.tolerance) + 0x1p-134;
    }
    std::string text = difference(stored.data(), expected);
    if (!text.empty()) return "the latent of token " + std::to_string(t) + text;
    for (int64_t h = t * heads; h < (t + 1) * heads; h++) {
      std::vector<Bounded> query;
      for (int64_t i = 0; i < c; i++)
        query.push_back({value(args.q_latent->f32(), h * c + i), 0.0});
      for (const Bounded& one : rotated(args, args.q->f32() + (h + 1) * d - rotated_d, t))
        query.push_back(one);
      if (c % 2 != 0) query.push_back({0.0, 0.0});
      text = difference(args.out->f32() + h * width, query);
      if (!text.empty()) return "query " + std::to_string(h) + text;
    }
  }
  return {};
}

struct Case {
  int64_t heads, d, latent, pairs, page_size;
  std::vector<SequenceSpec> sequences;
  bool interleaved = false;
  float scale = 1.0f;

  int64_t stored() const { return latent + 2 * pairs; }
  int64_t width() const { return (stored() + 1) / 2 * 2; }
  std::string name() const {
    return std::to_string(heads) + " x " + std::to_string(d) + ", latents of " +
           std::to_string(latent) + " + " + std::to_string(2 * pairs) + ", S " +
           std::to_string(page_size) + (interleaved ? ", interleaved" : "");
  }
};

const std::vector<Case> kCases = {{1, 2, 2, 1, 16, {{0, 1}}},
                                  {2, 6, 4, 1, 16, {{5, 0}}},
                                  {3, 20, 10, 3, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}, true},
                                  {4, 48, 34, 8, 32, {{30, 40}, {0, 17}}, false, 1.75f},
                                  {3, 20, 15, 4, 16, {{0, 9}, {15, 3}}, true},
                                  {2, 4, 1, 1, 16, {{3, 9}}},
                                  {20, 96, 128, 16, 64, {{100, 1}, {63, 1}, {64, 1}}, true},
                                  {5, 256, 512, 32, 16, {{7, 33}}, true, 3.0f},
                                  {1, 64, 960, 32, 16, {{7, 3}}}};

constexpr int32_t kLayer = 1;

struct Data {
  const PagedStep step;
  PagedInts ints;
  Cache cache;
  Floats q, q_latent, latent, norm, cosine, sine, out;
  LatentStoreArgs args = {};

  Data(Arena& arena, const Case& c, DType dtype)
      : step(c.sequences, c.page_size),
        ints(arena, step),
        cache(arena, {nullptr, dtype, 2, step.pages, c.page_size, 1, c.width(), 0}),
        q(arena, {step.tokens, c.heads * c.d}, 1),
        q_latent(arena, {step.tokens, c.heads * c.latent}, 2),
        latent(arena, {step.tokens, c.stored()}, 3),
        norm(arena, {c.latent}, 4),
        cosine(arena, {step.tokens, c.pairs}, 5),
        sine(arena, {step.tokens, c.pairs}, 6),
        out(arena, {step.tokens, c.heads, c.width()}) {
    args = {&q.tensor,
            &q_latent.tensor,
            &latent.tensor,
            &norm.tensor,
            &cosine.tensor,
            &sine.tensor,
            &ints.positions.tensor,
            &ints.starts.tensor,
            &ints.page_table.tensor,
            &cache.view,
            &out.tensor,
            kLayer,
            1e-3f,
            c.scale,
            c.interleaved};
  }
};

MOEPP_OP_TEST(latent_store) {
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      on.start(c.name() + " " + dtype_name(dtype));
      Data d(on, c, dtype);
      const int64_t t = d.step.tokens;
      on.expect(d.args, [&](const LatentStoreArgs& a) { return check_latent_store(a, all(t)); });
      on.require(d.cache.numbers() == t * c.width(), "touched another token's element");
      const auto cut = [&](LatentStoreArgs& a, int64_t row) { d.ints.cut(a, row); };
      if (t > 0) on.expect_rows_alone(d.args, {d.step.ends()}, cut);
    }
  }
}

// Once per layer of a step.
void rows(bench::Run& run, DType dtype) {
  const bench::LatentHeads& h = run.sizes.latent;
  for (const int64_t t : run.sizes.step_tokens) {
    const Case c = {
        h.query, h.plain + h.rotated, h.latent, h.rotated / 2, run.sizes.page_size, {{0, t}}, true};
    Data d(run, c, dtype);
    const int64_t copied = 4 * c.heads * c.width(), read = copied + 4 * c.stored(),
                  written = copied + c.width() * dtype_size(dtype);
    run.op_row({"latent_store " + c.name(),
                dtype,
                t,
                {static_cast<double>(t * read), static_cast<double>(t * written)}},
               d.args,
               [&](const LatentStoreArgs& a) { return check_latent_store(a, sample(t, 50)); });
  }
}

MOEPP_BENCH(latent_store_bf16) {
  rows(run, DType::kBf16);
}
MOEPP_BENCH(latent_store_f32) {
  rows(run, DType::kF32);
}

}  // namespace
}  // namespace moepp::test
