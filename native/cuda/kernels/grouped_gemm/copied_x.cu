// Rows of x as Hopper's product of bf16 takes them: bf16, in the order of the output's rows. TMA
// cannot gather them. A warp copies a row. For few rows x comes from L2, where the op before left
// it, and the copy stays there. An element of a row moves 6 bytes, beside 2 operations for each
// stored row of the weight: with 8192 of these some 4 % of the product.
// SASS * copy_rows_of_x: LDG STG !LDL !STL registers<=48 no-spills
#include "cuda/kernels/grouped_gemm/tiles.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kTileRows = 128;

template <class X, int N>
__global__ void __launch_bounds__(kThreads)
    copy_rows_of_x(const Gemm g, int first, int end, simt::bf16* out) {
  await_inputs();
  const int r = first + static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (r >= min(end, end_row(g, g.groups - 1))) return;
  const X* from = g.x_row<X>(source_row(g, r));
  simt::bf16* to = out + static_cast<int64_t>(r - first) * g.pitch;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) % 32 * N; i < g.k; i += 32 * N) {
    float v[N];
    load_elements(from + i, v);
    store_elements(to + i, v);
  }
}

int64_t row_bytes(const Gemm& g) {
  return int64_t{g.pitch} * static_cast<int64_t>(sizeof(simt::bf16));
}

}  // namespace

bool serves_as_it_is(const Gemm& g) {
  const bool in_order = g.offsets != nullptr ? g.token_order == nullptr : g.groups == 1;
  return g.dtype != DType::kF8 && g.x_dtype == DType::kBf16 && in_order;
}

int64_t rows_at_once(const Gemm& g, const CudaQueue& queue) {
  if (serves_as_it_is(g)) return g.rows;
  const int64_t tile =
      g.dtype == DType::kF8 ? float8_bytes(g, kTileRows) : kTileRows * row_bytes(g);
  return queue.workspace_bytes() / tile * kTileRows;
}

const void* copy_x(const Gemm& g, int first, int end, CudaQueue& queue) {
  auto* out = static_cast<simt::bf16*>(queue.workspace((end - first) * row_bytes(g)));
  const simt::Launch how = {dim3(static_cast<unsigned>((end - first + kWarps - 1) / kWarps)),
                            dim3(kThreads)};
  // Rows of bf16 are whole units of 16 bytes.
  const auto kernel = g.x_dtype == DType::kBf16 ? copy_rows_of_x<simt::bf16, 4>
                      : g.has_units_of(4)       ? copy_rows_of_x<float, 4>
                                                : copy_rows_of_x<float, 1>;
  queue.launch(kernel, how, g, first, end, out);
  return out;
}

}  // namespace moepp::cuda
