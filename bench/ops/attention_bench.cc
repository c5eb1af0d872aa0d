#include <cmath>

#include "bench.h"

namespace moepp::bench {

// A cache of as many layers as exceed every cache of the processor; calls take one layer after the
// other, as a step does.
static void attention_row(Run& run, const std::string& name, DType dtype,
                          const std::vector<test::SequenceSpec>& sequences, const Heads& heads,
                          int64_t window = 0) {
  const Sizes& s = run.sizes;
  const test::PagedStep step(sequences, s.page_size);
  if (!run.wants(name, step.tokens)) return;  // before memory is filled for it
  const PagedInts ints(run, step);
  KvView shape = {nullptr, dtype, 1, step.pages, s.page_size, heads.kv, heads.dim, heads.dim};
  shape.layers = s.cold_bytes / (test::cache_elements(shape) * dtype_size(dtype)) + 1;
  const Cache cache(run, shape);
  Floats q(run, {step.tokens, heads.query, heads.dim}, 2),
      out(run, {step.tokens, heads.query * heads.dim});
  round_to_bf16(q);
  AttentionArgs args = {&q.tensor,
                        &ints.positions.tensor,
                        &ints.starts.tensor,
                        &ints.page_table.tensor,
                        &cache.view,
                        &out.tensor,
                        0,
                        1.0f / std::sqrt(static_cast<float>(heads.dim)),
                        static_cast<int32_t>(window)};
  double keys = 0.0, pairs = 0.0;
  for (const test::SequenceSpec& one : sequences) {
    const auto seen = [&](int64_t limit) { return window > 0 && limit > window ? window : limit; };
    keys += static_cast<double>(seen(one.before + one.tokens));
    for (int64_t t = 1; t <= one.tokens; t++) pairs += static_cast<double>(seen(one.before + t));
  }
  run.row(
      {name,
       dtype,
       step.tokens,
       {2.0 * keys * static_cast<double>(heads.kv * heads.dim * dtype_size(dtype)), 0.0},
       4.0 * pairs * static_cast<double>(heads.query * heads.dim),
       dtype == DType::kBf16 ? "bf16_dot" : ""},
      args,
      [&](const AttentionArgs& a) {
        return test::check_attention(a, test::sample(step.tokens, 3), attention_errors(run, dtype));
      },
      [&](int64_t i) {
        AttentionArgs of_layer = args;
        of_layer.layer = static_cast<int32_t>(i % shape.layers);
        run.kernels().attention(of_layer, run.device().queue());
      });
}

static void attention_rows(Run& run, DType dtype) {
  const Sizes& s = run.sizes;
  const int64_t whole = s.context;
  const auto decode = [&](int64_t batch, int64_t context, int64_t kv_heads) {
    const std::string name =
        "attention decode, " + (batch > 1 ? std::to_string(batch) + " x " : std::string()) +
        "context " + std::to_string(context) + (kv_heads == 1 ? ", one kv head" : "");
    attention_row(run, name, dtype,
                  std::vector<test::SequenceSpec>(static_cast<size_t>(batch), {context - 1, 1}),
                  {s.heads, kv_heads, s.head_dim});
  };
  decode(1, whole / 8, s.heads);
  decode(1, whole, s.heads);
  decode(8, whole / 4, s.heads);
  decode(1, 4 * whole, 1);
  attention_row(run, "attention 8 tokens after " + std::to_string(whole / 4), dtype,
                {{whole / 4, 8}}, s.plain());
  attention_row(run, "attention prefill", dtype, {{0, whole / 8}}, s.plain());
  attention_row(run, "attention prefill", dtype, {{0, whole / 2}}, s.plain());
}

// Query heads that share keys.
static void grouped_rows(Run& run, DType dtype) {
  const Sizes& s = run.sizes;
  const Heads& h = s.grouped;
  const std::string kind = "attention " + std::to_string(h.query) + "/" + std::to_string(h.kv) +
                           " x " + std::to_string(h.dim);
  for (const int64_t context : {s.context / 8, s.context}) {
    for (const int64_t tokens : {int64_t{1}, s.context / 8}) {
      attention_row(run, kind + ", context " + std::to_string(context), dtype,
                    {{context - tokens, tokens}}, h);
    }
  }
  attention_row(
      run, kind + ", window " + std::to_string(s.window) + " of " + std::to_string(4 * s.context),
      dtype, {{4 * s.context - 1, 1}}, h, s.window);
}

MOEPP_BENCH(attention_bf16) {
  attention_rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_f32) {
  attention_rows(run, DType::kF32);
}
MOEPP_BENCH(attention_grouped_bf16) {
  grouped_rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_grouped_f32) {
  grouped_rows(run, DType::kF32);
}

}  // namespace moepp::bench
