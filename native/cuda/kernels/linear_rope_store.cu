// A token's projection to queries, keys and values, streamed, with the rotation in registers
// (grouped_gemm/rotated_columns.cuh). For more tokens the two ops run one after the other. So they
// do where heads are normed, or do not consist of fours.
// SASS * multiply_streamed: LDG FFMA SHFL !LDL !STL no-spills early-LDG<=2
#include "cuda/kernels/grouped_gemm/rotated_columns.cuh"
#include "cuda/kernels/kernels.h"

namespace moepp::cuda {

namespace {

bool fits(const LinearRopeStoreArgs& args, const Gemm& g, const CudaQueue& queue) {
  const RopeStoreArgs& store = args.store;
  const bool of_fours = store.q->shape[2] % 4 == 0 && store.cosine->shape[1] % 2 == 0;
  return g.activation == Activation::kNone && store.q_norm == nullptr &&
         (store.interleaved || of_fours) && stream::takes_epilogue(g, queue);
}

}  // namespace

void linear_rope_store(const LinearRopeStoreArgs& args, Queue& queue) {
  CudaQueue& to = CudaQueue::from(queue);
  const RopeStoreArgs& store = args.store;
  const Gemm g = gemm_of(args.linear);
  if (!fits(args, g, to)) {
    linear(args.linear, queue);
    return rope_store(store, queue);
  }
  stream::RotatedColumns columns = {};
  columns.step = kv_step(store);
  columns.cache = {columns.step.layer, store.cache->dtype == DType::kBf16};
  columns.cosine = store.cosine->f32();
  columns.sine = store.sine->f32();
  columns.q = store.q->f32();
  columns.hq = static_cast<int>(store.q->shape[1]);
  columns.pairs = static_cast<int>(store.cosine->shape[1]);
  columns.interleaved = store.interleaved;
  stream::launch_with(g, to, columns);
}

}  // namespace moepp::cuda
