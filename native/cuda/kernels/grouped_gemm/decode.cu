// Few rows per group: stream.cuh.
// SASS * multiply_streamed: LDG FFMA SHFL !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/grouped_gemm/stream.cuh"

namespace moepp::cuda {

namespace {

template <class Weight, int kRows>
void launch(const Gemm& g, CudaQueue& queue) {
  using namespace stream;
  if (g.has_units_of(4)) return stream::launch<Config<Weight, kRows, true>>(g, queue, Columns());
  stream::launch<Config<Weight, kRows, false>>(g, queue, Columns());
}

template <class Weight>
void launch_for_rows(const Gemm& g, CudaQueue& queue) {
  const int rows = g.rows / g.picks_per_row;  // of one group, at most
  if (rows <= 1) return launch<Weight, 1>(g, queue);
  if (rows <= 2) return launch<Weight, 2>(g, queue);
  if (rows <= 4) return launch<Weight, 4>(g, queue);
  launch<Weight, 8>(g, queue);
}

}  // namespace

void gemm_decode(const Gemm& g, CudaQueue& queue) {
  stream::with_weight(g.dtype, [&](auto weight) { launch_for_rows<decltype(weight)>(g, queue); });
}

}  // namespace moepp::cuda
