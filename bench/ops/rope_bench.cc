// rope_table and rope_store. The table is made once per step, the store runs once per layer.
#include <cmath>

#include "../../native/test/paged_step.h"
#include "shapes.h"

namespace moepp::bench {

MOEPP_BENCH(rope_table) {
  for (int64_t t : kStepTokens) {
    Ints positions({t}), starts({2});
    for (int64_t i = 0; i < t; i++) positions.data[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    starts.data[1] = static_cast<int32_t>(t);
    Floats frequencies({1, kHeadDim / 2}, 1), cosine({t, kHeadDim / 2}, 2), sine({t, kHeadDim / 2}, 3);
    for (size_t j = 0; j < kHeadDim / 2; j++) {
      frequencies.data[j] = std::pow(1e4f, -static_cast<float>(j) / static_cast<float>(kHeadDim / 2));
    }
    const RopeTableArgs args = {&positions.tensor, &starts.tensor, &frequencies.tensor, &cosine.tensor, &sine.tensor, 1.0f};
    const auto call = [&](int64_t) { run.isa.kernels->rope_table(args, run.pool); };
    call(0);
    run.row({"rope_table 48", "f32", t, static_cast<double>(8 * t * kHeadDim / 2), 0.0},
            test::check_rope_table(args, test::sample(t, 50)), call);
  }
}

static void rope_store_rows(Run& run, DType dtype) {
  constexpr int64_t kWidth = 3 * kHeads * kHeadDim;
  for (int64_t t : kStepTokens) {
    test::PagedStep step({{0, t}}, kPageSize);
    KvView kv = {nullptr, dtype, 1, step.pages, kPageSize, kHeads, kHeadDim};
    Buffer cache(static_cast<size_t>(test::cache_elements(kv) * dtype_size(dtype)));
    kv.data = cache.as<char>();
    Floats qkv({t, kWidth}, 1), cosine({t, kHeadDim / 2}, 2), sine({t, kHeadDim / 2}, 3), q({t, kHeads, kHeadDim}, 4);
    const Tensor positions = step.positions_tensor(), starts = step.starts_tensor(), table = step.page_table_tensor();
    const RopeStoreArgs args = {&qkv.tensor, &cosine.tensor, &sine.tensor, &positions, &starts, &table, &kv, &q.tensor, 0};
    const auto call = [&](int64_t) { run.isa.kernels->rope_store(args, run.pool); };
    call(0);
    const int64_t row_bytes = 4 * kWidth + 4 * kHeads * kHeadDim + 2 * kHeads * kHeadDim * dtype_size(dtype);
    run.row({"rope_store 16 x 96", dtype_name(dtype), t, static_cast<double>(t * row_bytes), 0.0},
            test::check_rope_store(args, test::sample(t, 50)), call);
  }
}

MOEPP_BENCH(rope_store_bf16) {
  rope_store_rows(run, DType::kBf16);
}
MOEPP_BENCH(rope_store_f32) {
  rope_store_rows(run, DType::kF32);
}

}  // namespace moepp::bench
