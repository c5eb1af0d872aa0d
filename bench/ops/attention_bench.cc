#include <cmath>

#include "../../native/test/paged_step.h"
#include "shapes.h"

namespace moepp::bench {

// A cache of as many layers as exceed every CPU cache; calls take one layer after the other, as a step does.
static void attention_row(Run& run, const char* name, DType dtype, const std::vector<test::SequenceSpec>& sequences,
                          int64_t kv_heads = kHeads) {
  test::PagedStep step(sequences, kPageSize);
  KvView kv = {nullptr, dtype, 1, step.pages, kPageSize, kv_heads, kHeadDim};
  const int64_t layer_bytes = test::cache_elements(kv) * dtype_size(dtype);
  kv.layers = (int64_t{256} << 20) / layer_bytes + 1;
  Buffer cache(static_cast<size_t>(layer_bytes * kv.layers));
  kv.data = cache.as<char>();
  std::vector<float> values(1 << 20);
  test::fill(values.data(), 1 << 20, 1);
  for (int64_t i = 0; i < test::cache_elements(kv); i++) {
    const float value = values[static_cast<size_t>(i) & 0xfffff];
    if (dtype == DType::kF32) {
      cache.as<float>()[i] = value;
    } else {
      cache.as<uint16_t>()[i] = f32_to_bf16(value);
    }
  }
  Floats q({step.tokens, kHeads, kHeadDim}, 2), out({step.tokens, kHeads, kHeadDim}, 3);
  const Tensor positions = step.positions_tensor(), starts = step.starts_tensor(), table = step.page_table_tensor();
  AttentionArgs args = {&q.tensor, &positions,  &starts, &table,
                        &kv,       &out.tensor, 0,       1.0f / std::sqrt(static_cast<float>(kHeadDim))};
  const auto call = [&](int64_t i) {
    args.layer = static_cast<int32_t>(i % kv.layers);
    run.isa.kernels->attention(args, run.pool);
  };
  call(0);
  double keys = 0.0, pairs = 0.0;
  for (const test::SequenceSpec& s : sequences) {
    keys += static_cast<double>(s.before + s.tokens);
    pairs += static_cast<double>(s.tokens) * (static_cast<double>(s.before) + static_cast<double>(s.tokens + 1) / 2.0);
  }
  const double bytes = 2.0 * keys * static_cast<double>(kv_heads * kHeadDim * dtype_size(dtype));
  run.row({name, dtype_name(dtype), step.tokens, bytes, 4.0 * pairs * static_cast<double>(kHeads * kHeadDim)},
          test::check_attention(args, test::sample(step.tokens, 3)), call);
}

static void attention_rows(Run& run, DType dtype) {
  attention_row(run, "attention decode, context 512", dtype, {{511, 1}});
  attention_row(run, "attention decode, context 4096", dtype, {{4095, 1}});
  attention_row(run, "attention decode, 8 x context 1024", dtype, std::vector<test::SequenceSpec>(8, {1023, 1}));
  attention_row(run, "attention decode, one kv head, 16384", dtype, {{16383, 1}}, 1);
  attention_row(run, "attention 8 tokens after 1024", dtype, {{1024, 8}});
  attention_row(run, "attention prefill", dtype, {{0, 512}});
  attention_row(run, "attention prefill", dtype, {{0, 2048}});
}

MOEPP_BENCH(attention_bf16) {
  attention_rows(run, DType::kBf16);
}
MOEPP_BENCH(attention_f32) {
  attention_rows(run, DType::kF32);
}

}  // namespace moepp::bench
