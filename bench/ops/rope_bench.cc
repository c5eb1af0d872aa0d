#include "bench.h"

namespace moepp::bench {

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
