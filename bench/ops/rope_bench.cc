// rope_table and rope_store. The table is made once per step, the store runs once per layer.
#include <cmath>

#include "arrays.h"

namespace moepp::bench {

MOEPP_BENCH(rope_table) {
  const int64_t half = run.sizes.head_dim / 2;
  for (int64_t t : run.sizes.step_tokens) {
    Ints positions(run, {t}), starts(run, {2});
    for (int64_t i = 0; i < t; i++) positions.host()[i] = static_cast<int32_t>(i);
    positions.upload();
    set(starts, {0, static_cast<int32_t>(t)});
    Floats frequencies(run, {1, half}), cosine(run, {t, half}), sine(run, {t, half});
    for (int64_t j = 0; j < half; j++)
      frequencies.host()[j] = std::pow(1e4f, -static_cast<float>(j) / static_cast<float>(half));
    frequencies.upload();
    const RopeTableArgs args = {&positions.tensor, &starts.tensor, &frequencies.tensor,
                                &cosine.tensor,    &sine.tensor,   1.0f};
    run.row(
        {"rope_table " + std::to_string(half),
         DType::kF32,
         t,
         {0.0, static_cast<double>(8 * t * half)}},
        args,
        [&](const RopeTableArgs& a) { return test::check_rope_table(a, test::sample(t, 50)); },
        [&](int64_t) { run.kernels().rope_table(args, run.device().queue()); });
  }
}

static void rope_store_rows(Run& run, DType dtype) {
  const Sizes& s = run.sizes;
  const int64_t width = s.heads * s.head_dim;
  for (int64_t t : s.step_tokens) {
    const test::PagedStep step({{0, t}}, s.page_size);
    const PagedInts ints(run, step);
    const Cache cache(run, {nullptr, dtype, 1, step.pages, s.page_size, s.heads, s.head_dim});
    Floats qkv(run, {t, 3 * width}, 1), cosine(run, {t, s.head_dim / 2}, 2),
        sine(run, {t, s.head_dim / 2}, 3);
    Floats q(run, {t, s.heads, s.head_dim});
    const RopeStoreArgs args = {&qkv.tensor,
                                &cosine.tensor,
                                &sine.tensor,
                                &ints.positions.tensor,
                                &ints.starts.tensor,
                                &ints.page_table.tensor,
                                &cache.view,
                                &q.tensor,
                                0};
    const int64_t read = 3 * 4 * width, written = 4 * width + 2 * width * dtype_size(dtype);
    run.row(
        {"rope_store " + std::to_string(s.heads) + " x " + std::to_string(s.head_dim),
         dtype,
         t,
         {static_cast<double>(t * read), static_cast<double>(t * written)}},
        args,
        [&](const RopeStoreArgs& a) { return test::check_rope_store(a, test::sample(t, 50)); },
        [&](int64_t) { run.kernels().rope_store(args, run.device().queue()); });
  }
}

MOEPP_BENCH(rope_store_bf16) {
  rope_store_rows(run, DType::kBf16);
}
MOEPP_BENCH(rope_store_f32) {
  rope_store_rows(run, DType::kF32);
}

}  // namespace moepp::bench
