// rope_table and rope_store. The table is made once per step, the store runs once per layer.
#include <cmath>

#include "bench.h"

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

static void rope_store_rows(Run& run, DType dtype, const Heads& h, bool normed = false) {
  const Sizes& s = run.sizes;
  for (int64_t t : s.step_tokens) {
    const test::PagedStep step({{0, t}}, s.page_size);
    const PagedInts ints(run, step);
    const Cache cache(run, {nullptr, dtype, 1, step.pages, s.page_size, h.kv, h.dim, h.dim});
    const int64_t columns = (h.query + 2 * h.kv) * h.dim;
    Floats qkv(run, {t, columns}, 1), cosine(run, {t, h.dim / 2}, 2), sine(run, {t, h.dim / 2}, 3);
    Floats q(run, {t, h.query, h.dim}), q_norm(run, {h.dim}, 4), k_norm(run, {h.dim}, 5);
    RopeStoreArgs args = {&qkv.tensor,
                          &cosine.tensor,
                          &sine.tensor,
                          &ints.positions.tensor,
                          &ints.starts.tensor,
                          &ints.page_table.tensor,
                          &cache.view,
                          &q.tensor,
                          0};
    if (normed) args.q_norm = &q_norm.tensor, args.k_norm = &k_norm.tensor, args.eps = 1e-6f;
    const int64_t read = 4 * columns,
                  written = 4 * h.query * h.dim + 2 * h.kv * h.dim * dtype_size(dtype);
    run.row(
        {"rope_store " + std::to_string(h.query) +
             (h.kv < h.query ? "/" + std::to_string(h.kv) : std::string()) + " x " +
             std::to_string(h.dim) + (normed ? ", normed" : ""),
         dtype,
         t,
         {static_cast<double>(t * read), static_cast<double>(t * written)}},
        args,
        [&](const RopeStoreArgs& a) { return test::check_rope_store(a, test::sample(t, 50)); },
        [&](int64_t) { run.kernels().rope_store(args, run.device().queue()); });
  }
}

MOEPP_BENCH(rope_store_bf16) {
  rope_store_rows(run, DType::kBf16, run.sizes.plain());
}
MOEPP_BENCH(rope_store_f32) {
  rope_store_rows(run, DType::kF32, run.sizes.plain());
}
MOEPP_BENCH(rope_store_grouped_bf16) {
  rope_store_rows(run, DType::kBf16, run.sizes.grouped, true);
}
MOEPP_BENCH(rope_store_grouped_f32) {
  rope_store_rows(run, DType::kF32, run.sizes.grouped, true);
}

}  // namespace moepp::bench
