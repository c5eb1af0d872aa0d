// One block per token copies the token's row, widened to f32, or adds to it. Bound by memory.
// SASS * embed_rows: LDG STG !LDL !STL registers<=40 no-spills
// SASS * embed_quantised: LDG STG !LDL !STL registers<=40 no-spills
#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 128;

// scale * (row + delta), if there is a delta [T, h].
struct Added {
  const float* delta;
  float scale;

  template <int N>
  SIMT_DEVICE void add(int64_t at, float (&v)[N]) const {
    if (delta == nullptr) return;
    float more[N];
    load_elements(delta + at, more);
    for (int i = 0; i < N; i++) v[i] = scale * (v[i] + more[i]);
  }
};

Added added_of(const EmbeddingArgs& args) {
  return {args.delta != nullptr ? args.delta->as<const float>() : nullptr, args.scale};
}

// N elements at a time: 4 where rows are whole fours, else 1.
template <class E, int N>
__global__ void __launch_bounds__(kThreads)
    embed_rows(const int32_t* tokens, const E* table, int64_t pitch, Added added, float* out,
               int h) {
  await_inputs();
  const E* row = table + tokens[blockIdx.x] * pitch;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * h;
  for (int i = static_cast<int>(threadIdx.x) * N; i < h; i += kThreads * N) {
    float v[N];
    load_elements(row + i, v);
    added.add(first + i, v);
    store_elements(out + first + i, v);
  }
}

// From a table that the output head shares, as one group of weights: its `rows` rows.
template <class Weight>
__global__ void __launch_bounds__(kThreads)
    embed_quantised(const int32_t* tokens, const void* table, int rows, int pitch, Added added,
                    float* out, int h) {
  await_inputs();
  const QuantisedGroup<Weight> weight(table, 0, rows, pitch);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * h;
  for (int i = static_cast<int>(threadIdx.x); i < h; i += kThreads) {
    float v[1] = {weight.value(tokens[blockIdx.x], i)};
    added.add(first + i, v);
    store_elements(out + first + i, v);
  }
}

template <class Weight>
void embed_quantised_rows(const EmbeddingArgs& args, const simt::Launch& how, CudaQueue& queue) {
  const Tensor& table = *args.table;
  const auto rows = static_cast<int>(table.shape[0]),
             pitch = static_cast<int>(weight_pitch(table.dtype, table.shape[1]));
  queue.launch(embed_quantised<Weight>, how, args.tokens->i32(), table.as<const void>(), rows,
               pitch, added_of(args), args.out->f32(), static_cast<int>(table.shape[1]));
}

template <class E>
void embed(const EmbeddingArgs& args, int64_t pitch, const simt::Launch& how, CudaQueue& queue) {
  const auto h = static_cast<int>(args.table->shape[1]);
  const auto kernel = h % 4 == 0 ? embed_rows<E, 4> : embed_rows<E, 1>;
  queue.launch(kernel, how, args.tokens->i32(), args.table->as<const E>(), pitch, added_of(args),
               args.out->f32(), h);
}

}  // namespace

void embedding(const EmbeddingArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Tensor& table = *args.table;
  const simt::Launch how = {dim3(static_cast<unsigned>(args.tokens->shape[0])), dim3(kThreads)};
  if (table.dtype == DType::kI8) return embed_quantised_rows<Int8Weight>(args, how, stream);
  if (table.dtype == DType::kI4) return embed_quantised_rows<Int4Weight>(args, how, stream);
  if (table.dtype == DType::kF8) return embed_quantised_rows<Float8Weight>(args, how, stream);
  // Panels are rows with a pitch on a GPU (weight_layout.h).
  const int64_t pitch =
      table.layout == Layout::kRows ? table.shape[1] : weight_pitch(table.dtype, table.shape[1]);
  table.dtype == DType::kF32 ? embed<float>(args, pitch, how, stream)
                             : embed<simt::bf16>(args, pitch, how, stream);
}

}  // namespace moepp::cuda
