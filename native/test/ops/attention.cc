#include <atomic>
#include <cmath>
#include <thread>

#include "bench.h"
#include "op_test.h"

namespace moepp::test {

namespace {

struct Case {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
  float magnitude = 1.0f;  // of q: large ones make the softmax sharp
  int32_t window = 0;
  int64_t value_d = 0;  // 0: d
  bool latents = false;

  int64_t values() const { return value_d > 0 ? value_d : d; }
  int64_t stored_values() const { return latents ? 0 : values(); }
  std::string name() const {
    return std::to_string(hq) + "/" + std::to_string(hkv) + " x " + std::to_string(d) +
           (latents ? ", latents " : ", values ") + std::to_string(values()) + ", S " +
           std::to_string(page_size) + ", window " + std::to_string(window);
  }
};

// Steps of few tokens, which a GPU splits; of many; and of both.
const std::vector<Case> kCases = {
    {1, 1, 2, 16, {{0, 1}}},
    {2, 1, 8, 16, {{5, 0}}},
    {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
    {4, 2, 48, 32, {{30, 40}, {0, 17}}},
    {4, 2, 64, 32, {{30, 40}, {0, 17}, {130, 2}, {64, 4}}},
    {2, 2, 96, 64, {{100, 1}, {63, 1}, {64, 1}, {0, 1}}},
    {1, 1, 96, 64, {{0, 150}}},
    {2, 2, 96, 48, {{0, 20}, {200, 7}}, 40.0f},
    {8, 1, 64, 16, {{40, 6}}},
    {18, 1, 64, 16, {{40, 2}, {70, 1}}},
    {16, 1, 64, 32, {{70, 1}, {0, 3}}},
    {2, 1, 64, 16, {{70, 35}, {130, 1}}},
    {2, 1, 256, 16, {{7, 33}}},
    {1, 1, 80, 128, {{200, 9}}},
    {1, 1, 112, 128, {{100, 29}, {70, 1}}},
    {1, 1, 128, 16, {{100, 29}, {300, 1}}},
    {16, 2, 128, 32, {{90, 1}, {20, 5}}},
    {1, 1, 32, 112, {{95, 40}}},
    {16, 1, 128, 64, {{1450, 1}, {3, 1}}},  // split into ranges of two chunks on a GPU
    {2, 1, 96, 128, {{560, 70}, {0, 20}}},  // more tiles than Hopper's kernel has stages
    // Windows of one key; smaller than a page and a chunk, of their size, and larger. Some exceed
    // the context. Odd ones part a pair of bf16 keys. Rows of a block begin in different chunks.
    {1, 1, 2, 16, {{0, 5}}, 1.0f, 1},
    {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 20}}, 1.0f, 2},
    {4, 2, 48, 32, {{30, 40}, {0, 17}}, 1.0f, 7},
    {4, 2, 64, 32, {{30, 40}, {0, 17}, {130, 2}, {64, 4}}, 1.0f, 33},
    {2, 2, 96, 64, {{200, 1}, {63, 1}, {64, 1}, {0, 1}}, 1.0f, 64},
    {8, 1, 64, 16, {{40, 26}}, 40.0f, 16},
    {1, 1, 96, 16, {{100, 70}}, 40.0f, 17},
    {2, 1, 64, 16, {{70, 35}, {130, 1}}, 1.0f, 40},
    {8, 1, 128, 16, {{250, 20}, {300, 1}}, 1.0f, 65},
    {1, 1, 80, 128, {{390, 9}}, 1.0f, 66},
    {2, 1, 64, 16, {{70, 9}, {300, 2}}, 1.0f, 1000},
    {2, 1, 64, 16, {{70, 9}, {300, 2}}, 1.0f, INT32_MAX},
    {1, 1, 20, 16, {{1700, 1}}, 1.0f, 40},
    // Values of a size of their own.
    {1, 1, 2, 16, {{0, 3}}, 1.0f, 0, 4},
    {4, 2, 96, 32, {{30, 20}, {0, 7}, {90, 1}}, 1.0f, 0, 64},
    {2, 1, 48, 16, {{90, 11}}, 1.0f, 21, 130},
    {8, 1, 192, 64, {{150, 1}}, 1.0f, 0, 128},
    {2, 2, 32, 16, {{20, 5}}, 1.0f, 0, 256}};

// Values that are the first parts of keys.
const std::vector<Case> kLatentCases = {
    {1, 1, 4, 16, {{0, 3}}, 1.0f, 0, 2, true},
    {3, 1, 26, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}, 1.0f, 0, 18, true},
    {4, 1, 48, 32, {{30, 40}, {0, 17}}, 40.0f, 0, 32, true},
    {7, 1, 50, 48, {{61, 9}, {200, 1}}, 1.0f, 21, 34, true},
    {4, 2, 64, 16, {{33, 3}}, 1.0f, 0, 64, true},
    {20, 1, 576, 64, {{150, 1}, {3, 2}}, 1.0f, 0, 512, true},
    {20, 1, 576, 32, {{70, 17}, {230, 1}}, 1.0f, 0, 512, true},
    {3, 1, 576, 16, {{140, 11}}, 40.0f, 70, 512, true},
    {2, 1, 700, 16, {{60, 3}}, 1.0f, 0, 650, true},
    {30, 1, 144, 16, {{600, 1}, {20, 3}}, 1.0f, 0, 128, true}};

// Contexts of several chunks of a CPU, which its threads share; and many heads. Windows span what
// such a chunk holds, or begin where one does.
const std::vector<Case> kLargeCases = {
    {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}, {0, 1}}},
    {2, 2, 96, 64, {{0, 150}}},
    {2, 2, 96, 64, {{0, 100}, {70, 30}}},
    {2, 2, 96, 48, {{0, 60}, {500, 7}}, 40.0f},
    {2, 2, 128, 128, {{200, 29}}},
    {32, 4, 128, 64, {{130, 1}, {60, 9}}},
    {4, 1, 32, 32, {{1100, 3}, {600, 1}, {511, 2}}},
    {6, 1, 40, 32, {{1500, 1}, {20, 1}, {700, 3}}},
    {2, 1, 96, 80, {{0, 70}, {300, 9}}},
    {1, 1, 20, 48, {{2000, 1}}, 40.0f},
    {2, 2, 96, 64, {{0, 150}}, 1.0f, 33},
    {16, 2, 128, 64, {{300, 40}, {70, 1}, {5, 2}}, 1.0f, 65},
    {2, 1, 96, 80, {{0, 70}, {300, 9}}, 1.0f, 1000},
    {4, 1, 32, 32, {{1100, 3}, {600, 1}, {511, 2}, {1535, 2}}, 1.0f, 513},
    {8, 1, 40, 48, {{2000, 1}, {2000, 30}}, 1.0f, 600},
    {8, 1, 192, 64, {{600, 1}, {70, 9}}, 1.0f, 0, 128},
    {8, 1, 40, 32, {{2500, 1}, {20, 1}, {700, 3}}, 1.0f, 700, 48}};

constexpr int32_t kLayer = 1;

struct Data {
  const PagedStep step;
  PagedInts ints;
  Cache cache;
  Floats q, out;
  AttentionErrors errors;
  AttentionArgs args = {};

  Data(Arena& arena, const Case& c, DType dtype, int64_t layers = 2)
      : step(c.sequences, c.page_size, c.window),
        ints(arena, step),
        cache(arena,
              {nullptr, dtype, layers, step.pages, c.page_size, c.hkv, c.d, c.stored_values()}),
        q(arena, {step.tokens, c.hq, c.d}, 1, c.magnitude),
        out(arena, {step.tokens, c.hq * c.values()}),
        errors(attention_errors(arena.device(), cache.view)) {
    args.q = &q.tensor, args.cache = &cache.view, args.out = &out.tensor, args.layer = kLayer;
    args.positions = &ints.positions.tensor, args.sequence_starts = &ints.starts.tensor;
    args.page_table = &ints.page_table.tensor, args.window = c.window;
    args.scale = 1.0f / std::sqrt(static_cast<float>(c.d));
    if (errors.query_roundoff > 0.0 && !arena.device().uses_mapped_weights()) {
      round_to_bf16(q);  // a GPU rounds queries before they are scaled: these stay
      errors.query_roundoff = 0.0;
    }
    if (arena.guard == Guard::kMargins) cache.set(kLayer, step);
  }

  std::string check(const AttentionArgs& a) const {
    return check_attention(a, all(step.tokens), errors);
  }
};

void expect_attention(OpTest& on, const Case& c, DType dtype) {
  on.start(c.name() + " " + dtype_name(dtype));
  Data d(on, c, dtype);
  on.expect(d.args, [&](const AttentionArgs& a) { return d.check(a); });
  // on a CPU each token has a place of its own in a tile
  on.expect_rows_alone(d.args, {on.on_gpu() ? d.step.ends() : all(d.step.tokens)},
                       [&](AttentionArgs& a, int64_t t) { d.ints.cut(a, t); });
}

MOEPP_OP_TEST(attention) {
  for (const DType dtype : {DType::kF32, DType::kBf16})
    for (const Case& c : on.cases(kCases, dtype)) expect_attention(on, c, dtype);
}

MOEPP_OP_TEST(attention_of_latents) {
  const bool is_turing = on.device().info().isa == "sm_75";
  for (const Case& c : kLatentCases) {
    if (is_turing && c.d > 640) continue;  // 84 KB of shared memory for a block
    if (kFewCases && c.hq != 3) continue;
    for (const DType dtype : {DType::kF32, DType::kBf16}) expect_attention(on, c, dtype);
  }
}

MOEPP_OP_TEST(attention_of_large_steps) {
  if (on.emulated()) return;
  for (const Case& c : kLargeCases)
    for (const DType dtype : {DType::kF32, DType::kBf16}) expect_attention(on, c, dtype);
}

// Older GPUs compute in f32 where newer ones have tensor cores for bf16.
MOEPP_OP_TEST(attention_without_tensor_cores, 75) {
  if (!on.on_gpu()) return;
  for (const Case& c : on.cases(kCases, DType::kBf16))
    if (fit_tensor_cores(c.d, c.values())) expect_attention(on, c, DType::kBf16);
  for (const Case& c : on.cases(kLatentCases, DType::kBf16))
    if (c.d == kMlaDim) expect_attention(on, c, DType::kBf16);
}

// A GPU rounds q where it rounds keys and values.
MOEPP_OP_TEST(attention_rounds_queries) {
  Data d(on, {1, 1, 64, 16, {{20, 3}}}, DType::kBf16);
  if (!on.on_gpu() || d.errors.weight_roundoff == 0.0) return;
  on.run(d.args);
  const auto rounded = on.outputs(d.args);
  for (int64_t i = 0; i < d.q.tensor.elements(); i++) d.q[i] *= 1.0f + 0x1p-11f;
  d.q.upload();
  on.run(d.args);
  on.expect_same(rounded, on.outputs(d.args), "queries are not rounded");
}

// Another caller of the pool has its turn between any two jobs, and writes to all that a job's
// tasks may share.
MOEPP_OP_TEST(attention_split_beside_another_caller) {
  if (on.on_gpu()) return;  // it has no pool
  Data d(on, {6, 1, 40, 32, {{1500, 1}, {20, 1}, {700, 3}}}, DType::kF32);
  on.expect(d.args, [&](const AttentionArgs& a) { return d.check(a); });
  const auto alone = on.outputs(d.args);
  ThreadPool pool(3);
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done)
      pool.parallel_for(
          1, [&](int64_t, int) { std::memset(pool.job_scratch(), 0x7f, size_t{1} << 20); });
  });
  for (int i = 0; i < 50; i++) {
    std::fill_n(d.out.host(), d.out.tensor.elements(), NAN);
    on.kernels().attention(d.args, pool);
    on.expect_same(alone, on.outputs(d.args), "beside another caller");
  }
  done = true;
  other.join();
}

// A NaN in element i of the key and value at `position` makes the tokens NaN that see it, and no
// other.
void expect_nan(OpTest& on, Data& d, int64_t position, int64_t i) {
  d.cache.set(kLayer, d.step.page(0, position), 0, position % d.step.page_size, i, NAN);
  d.cache.upload();
  on.expect(d.args, [&](const AttentionArgs& a) -> std::string {
    for (int64_t t = 0; t < d.step.tokens; t++) {
      const bool expected = sequence_of(a.sequence_starts->i32(), t) == 0 && t >= position &&
                            (a.window == 0 || t < position + a.window);
      if (std::isnan(a.out->f32()[t * a.out->shape[1] + 39]) != expected)
        return "token " + std::to_string(t) + (expected ? " is no NaN" : " is NaN");
    }
    return d.check(a);
  });
}

// In bf16 the NaN lies beside the last key that token 20 sees, or beside the first in the window of
// token 26.
MOEPP_OP_TEST(attention_of_nan, 75, 90) {
  if (on.sanitized()) return;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int32_t window : {0, 6}) {
      for (const int64_t dim : {40, 64}) {
        for (const bool value : {false, true}) {
          on.start("window " + std::to_string(window) + " D " + std::to_string(dim) +
                   (value ? " value " : " key ") + dtype_name(dtype));
          Data d(on, {2, 1, dim, 16, {{0, 30}, {0, 1}}, 1.0f, window}, dtype);
          // Tensor cores multiply values that a token does not see, by 0.
          if (value && on.on_gpu() && d.errors.weight_roundoff > 0.0) continue;
          expect_nan(on, d, window > 0 ? 20 : 21, value ? dim + 39 : 39);
        }
      }
    }
  }
}

// A cache of as many layers as exceed every cache of the processor; calls take one layer after the
// other, as a step does.
void row(bench::Run& run, const std::string& name, DType dtype,
         const std::vector<SequenceSpec>& sequences, const bench::Heads& h, int32_t window = 0,
         int64_t latent = 0) {
  const Case c = {h.query, h.kv,   h.dim,  run.sizes.page_size, sequences,
                  1.0f,    window, latent, latent > 0};
  const PagedStep step(sequences, c.page_size);
  double keys = 0.0, pairs = 0.0;  // read once each; of a token and a key that it sees
  for (const SequenceSpec& s : sequences) {
    keys += static_cast<double>(s.before + s.tokens - s.first_seen(window));
    for (int64_t t = s.before; t < s.before + s.tokens; t++)
      pairs += static_cast<double>(t + 1 - SequenceSpec{t, 1}.first_seen(window));
  }
  if (!run.wants(name, step.tokens)) return;  // before memory is filled for it
  const KvView one = {nullptr, dtype, 1, step.pages, c.page_size, c.hkv, c.d, c.stored_values()};
  const int64_t layers = run.sizes.cold_bytes / (cache_elements(one) * dtype_size(dtype)) + 2;
  const Data d(run, c, dtype, layers);
  run.row(
      {name,
       dtype,
       step.tokens,
       {keys * static_cast<double>(c.hkv * (c.d + c.stored_values()) * dtype_size(dtype)), 0.0},
       2.0 * pairs * static_cast<double>(c.hq * (c.d + c.values())),
       dtype == DType::kBf16 ? "bf16_dot" : ""},
      d.args,
      [&](const AttentionArgs& a) { return check_attention(a, sample(step.tokens, 3), d.errors); },
      [&](int64_t i) {
        AttentionArgs of_layer = d.args;
        of_layer.layer = static_cast<int32_t>((i + kLayer) % layers);
        run.kernels().attention(of_layer, run.device().queue());
      });
}

void rows(bench::Run& run, DType dtype) {
  const bench::Sizes& s = run.sizes;
  const int64_t whole = s.context;
  const auto decode = [&](int64_t batch, int64_t context, int64_t kv_heads) {
    const std::string name =
        "attention decode, " + (batch > 1 ? std::to_string(batch) + " x " : std::string()) +
        "context " + std::to_string(context) + (kv_heads == 1 ? ", one kv head" : "");
    row(run, name, dtype, std::vector<SequenceSpec>(static_cast<size_t>(batch), {context - 1, 1}),
        {s.heads, kv_heads, s.head_dim});
  };
  decode(1, whole / 8, s.heads);
  decode(1, whole, s.heads);
  decode(8, whole / 4, s.heads);
  decode(1, 4 * whole, 1);
  row(run, "attention 8 tokens after " + std::to_string(whole / 4), dtype, {{whole / 4, 8}},
      s.plain());
  row(run, "attention prefill", dtype, {{0, whole / 8}}, s.plain());
  row(run, "attention prefill", dtype, {{0, whole / 2}}, s.plain());
}

// Query heads that share keys.
void grouped_rows(bench::Run& run, DType dtype) {
  const bench::Sizes& s = run.sizes;
  const bench::Heads& h = s.grouped;
  const std::string kind = "attention " + std::to_string(h.query) + "/" + std::to_string(h.kv) +
                           " x " + std::to_string(h.dim);
  for (const int64_t context : {s.context / 8, s.context}) {
    for (const int64_t tokens : {int64_t{1}, s.context / 8}) {
      row(run, kind + ", context " + std::to_string(context), dtype, {{context - tokens, tokens}},
          h);
    }
  }
  row(run, kind + ", window " + std::to_string(s.window) + " of " + std::to_string(4 * s.context),
      dtype, {{4 * s.context - 1, 1}}, h, static_cast<int32_t>(s.window));
}

// A cache of latents, and the heads of the same model without it.
void latent_rows(bench::Run& run, DType dtype) {
  const bench::Sizes& s = run.sizes;
  const bench::LatentHeads& h = s.latent;
  const bench::Heads latents = {h.query, 1, h.latent + h.rotated},
                     heads = {h.query, h.query, h.plain + h.rotated};
  for (const int64_t context : {s.context / 8, s.context, 4 * s.context}) {
    const std::string of = ", context " + std::to_string(context);
    row(run, "attention of latents" + of, dtype, {{context - 1, 1}}, latents, 0, h.latent);
    row(run, "attention of their heads" + of, dtype, {{context - 1, 1}}, heads);
  }
  const int64_t tokens = s.context / 8;
  row(run, "attention of latents, prefill", dtype, {{0, tokens}}, latents, 0, h.latent);
  row(run, "attention of their heads, prefill", dtype, {{0, tokens}}, heads);
}

MOEPP_BENCH(attention_latents_bf16) {
  latent_rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_latents_f32) {
  latent_rows(run, DType::kF32);
}
MOEPP_BENCH(attention_bf16) {
  rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_f32) {
  rows(run, DType::kF32);
}
MOEPP_BENCH(attention_grouped_bf16) {
  grouped_rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_grouped_f32) {
  grouped_rows(run, DType::kF32);
}

}  // namespace
}  // namespace moepp::test
