// Chooses how attention is computed (attention/attention.h), and merges the partial results of
// contexts that were split.
// SASS * merge_chunks: LDG MUFU !LDL !STL registers<=64 no-spills
#include <climits>

#include "cuda/kernels/attention/attention.h"
#include "cuda/kernels/kernels.h"

namespace moepp::cuda {

namespace {

constexpr int kSplitStepTokens = 16;  // of a step: all are split
constexpr int kSplitTokens = 4;       // of a sequence, beside sequences with more
constexpr int kBlocksPerProcessor = 8;

// One block per (unit, query head), one thread per dimension.
__global__ void __launch_bounds__(256) merge_chunks(Attention a) {
  await_inputs();
  const int unit = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y),
            d = a.step.value_dim;
  const int token = a.unit_token(unit), i = static_cast<int>(threadIdx.x);
  if (token < 0 || i >= d) return;
  const int position = a.step.positions[token],
            chunks = position / kChunk + 1 - a.first_key(position + 1) / kChunk;
  const float2* states = a.states + a.partial(unit, head, 0);
  const float* sums = a.sums + a.partial(unit, head, 0) * d + i;
  RowState state;
  float sum = 0.0f;
#pragma unroll 4
  for (int chunk = 0; chunk < chunks; chunk++) {
    float keep, add;
    merge(state, states[chunk].x, states[chunk].y, &keep, &add);
    sum = merged(sum, keep, sums[static_cast<int64_t>(chunk) * d], add);
  }
  a.out.store((static_cast<int64_t>(token) * a.hq + head) * d + i, {sum * (1.0f / state.total)});
}

void launch_kernel(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue) {
  has_mma(a, cache, queue.compiled().capability) ? attend_mma(a, split, splits, queue)
                                                 : attend_f32(a, cache, split, splits, queue);
}

// All units, as many at a time as the workspace holds.
void attend_split(Attention a, DType cache, int units, CudaQueue& queue) {
  const int64_t rows = static_cast<int64_t>(a.hq) * a.chunks;
  const int at_once =
      static_cast<int>(min(queue.workspace_bytes() / split_bytes(a), static_cast<int64_t>(units)));
  for (a.first_unit = 0; a.first_unit < units; a.first_unit += at_once) {
    a.units = min(at_once, units - a.first_unit);
    a.sums = static_cast<float*>(queue.workspace(a.units * split_bytes(a)));
    a.states = reinterpret_cast<float2*>(a.sums + a.units * rows * a.step.value_dim);
    const int blocks = a.units * a.step.kv_heads;
    const int splits =
        min(a.chunks, max(1, kBlocksPerProcessor * queue.multiprocessors() / blocks));
    launch_kernel(a, cache, true, splits, queue);
    const dim3 grid(static_cast<unsigned>(a.units), static_cast<unsigned>(a.hq));
    const dim3 threads(static_cast<unsigned>((a.step.value_dim + 31) / 32 * 32));
    queue.launch(merge_chunks, {grid, threads}, a);
  }
}

}  // namespace

void attention(const AttentionArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  Attention a = {};
  a.step = kv_step(args);
  a.q = args.q->f32();
  a.out = output_of(*args.out);
  a.tokens = static_cast<int>(args.q->shape[0]);
  a.hq = static_cast<int>(args.q->shape[1]);
  a.group = a.hq / a.step.kv_heads;
  a.scale = static_cast<float>(static_cast<double>(args.scale) * 1.4426950408889634);
  a.window = args.window > 0 ? args.window : INT_MAX;
  a.chunks = (a.step.columns * a.step.page_size + kChunk - 1) / kChunk;
  // as many as a window can touch; in 64 bits, as a window may be INT_MAX
  if (args.window > 0)
    a.chunks = min(a.chunks, static_cast<int>((int64_t{args.window} + kChunk - 2) / kChunk) + 1);
  if (a.tokens == 0) return;
  const DType cache = args.cache->dtype;
  const bool can_split = stream.splits_contexts() && stream.workspace_bytes() >= split_bytes(a);
  if (can_split && a.tokens <= max(kSplitStepTokens, 2 * a.step.sequences)) {
    attend_split(a, cache, a.tokens, stream);
    return;
  }
  a.split_tokens = can_split && a.step.sequences > 1 ? kSplitTokens : 0;
  launch_kernel(a, cache, false, 1, stream);
  if (a.split_tokens > 0) attend_split(a, cache, a.split_tokens * a.step.sequences, stream);
}

}  // namespace moepp::cuda
