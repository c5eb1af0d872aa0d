// Copies between pages of the KV cache, in every layer, as sequences that part need them.
#include "../bench.h"
#include "cuda/kernels/copy_page.h"

namespace moepp::bench {

// Empty if a page of a layer holds what the other does.
static std::string check_copy(Run& run, const KvView& cache, int64_t from, int64_t to) {
  const auto elements = static_cast<size_t>(cache.page_elements());
  std::vector<float> want(elements), got(elements);
  for (int64_t layer = 0; layer < cache.layers; layer++) {
    must(run.device().read_page(cache, layer, from, want.data()));
    must(run.device().read_page(cache, layer, to, got.data()));
    if (want != got) return "layer " + std::to_string(layer) + " differs";
  }
  return {};
}

// Each call copies other pages: the first half of them to the second.
static void copy_page_rows(Run& run, DType dtype) {
  if (run.device().uses_callers_memory()) return;
  const Sizes& s = run.sizes;
  const int64_t page = 2 * s.page_size * s.heads * s.head_dim * dtype_size(dtype),
                half = 1 + s.cold_bytes / (2 * s.layers * page);
  const double bytes = static_cast<double>(s.layers * page);
  const Cache cache(
      run, {nullptr, dtype, s.layers, 2 * half, s.page_size, s.heads, s.head_dim, s.head_dim});
  run.row(
      {"copy_page " + std::to_string(s.layers) + " x " + std::to_string(page),
       dtype,
       s.page_size,
       {bytes, bytes}},
      [&] { return check_copy(run, cache.view, 0, half); },
      [&](int64_t i) {
        cuda::copy_page(cache.view, i % half, half + i % half, run.device().queue());
      });
}

MOEPP_BENCH(copy_page_bf16) {
  copy_page_rows(run, DType::kBf16);
}
MOEPP_BENCH(copy_page_f32) {
  copy_page_rows(run, DType::kF32);
}

}  // namespace moepp::bench
