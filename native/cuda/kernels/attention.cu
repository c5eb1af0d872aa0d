// Chooses how attention is computed (attention/attention.h).
#include <climits>

#include "cuda/kernels/attention/split.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/persistent/stages.h"

namespace moepp::cuda {

namespace {

constexpr int kSplitStepTokens = 16;  // of a step: all are split
constexpr int kSplitTokens = 4;       // of a sequence, beside sequences with more

void launch_kernel(const Attention& a, DType cache, bool split, int splits, CudaQueue& queue) {
  if (a.step.latents) return attend_latents(a, cache, split, splits, queue);
  if (!split && queue.uses_wgmma() && has_wgmma(a, cache)) return attend_sm90(a, queue);
  has_mma(a, cache, queue.compiled().capability) ? attend_mma(a, split, splits, queue)
                                                 : attend_f32(a, cache, split, splits, queue);
}

int counters_of_unit(const Attention& a) {
  return a.step.kv_heads * a.row_blocks();
}

bool can_split(const Attention& a, const CudaQueue& queue) {
  return queue.splits_contexts() && queue.workspace_bytes() >= split_bytes(a) &&
         queue.counters() != nullptr && counters_of_unit(a) <= CudaQueue::kCounters;
}

// All units, as many at a time as the workspace and the counters hold.
void attend_split(Attention a, DType cache, int units, CudaQueue& queue) {
  const int64_t rows = static_cast<int64_t>(a.hq) * a.ranges,
                room = min(queue.workspace_bytes() / split_bytes(a),
                           int64_t{CudaQueue::kCounters / counters_of_unit(a)});
  const int at_once = static_cast<int>(min(room, int64_t{units}));
  a.finished = queue.counters();
  for (a.first_unit = 0; a.first_unit < units; a.first_unit += at_once) {
    a.units = min(at_once, units - a.first_unit);
    a.sums = static_cast<float*>(queue.workspace(a.units * split_bytes(a)));
    a.states = reinterpret_cast<float2*>(a.sums + a.units * rows * a.step.value_dim);
    if (a.tokens == 1 && !a.step.latents && add_stage(a, cache, queue)) return;
    const int blocks = a.units * counters_of_unit(a),
              per_processor = a.step.latents        ? 1
                              : a.step.key_dim > 96 ? 2
                                                    : 3;  // at a time
    const int splits = min(a.ranges, max(1, per_processor * queue.multiprocessors() / blocks));
    launch_kernel(a, cache, true, splits, queue);
  }
}

}  // namespace

Attention attention_of(const AttentionArgs& args) {
  Attention a = {};
  a.step = kv_step(args);
  a.q = args.q->f32();
  a.out = output_of(*args.out);
  a.tokens = static_cast<int>(args.q->shape[0]);
  a.hq = static_cast<int>(args.q->shape[1]);
  a.step.value_dim = static_cast<int>(args.out->shape[1]) / a.hq;
  a.group = a.hq / a.step.kv_heads;
  a.scale = static_cast<float>(static_cast<double>(args.scale) * 1.4426950408889634);
  a.window = args.window > 0 ? args.window : INT_MAX;
  a.chunks = (a.step.columns * a.step.page_size + kChunk - 1) / kChunk;
  // as many as a window can touch; in 64 bits, as a window may be INT_MAX
  if (args.window > 0)
    a.chunks = min(a.chunks, static_cast<int>((int64_t{args.window} + kChunk - 2) / kChunk) + 1);
  a.ranges = most_ranges(a, a.chunks);
  return a;
}

bool splits_all(const Attention& a) {
  return a.tokens <= max(kSplitStepTokens, 2 * a.step.sequences);
}

void attention(const AttentionArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  Attention a = attention_of(args);
  if (a.tokens == 0) return;
  const DType cache = args.cache->dtype;
  const bool splits = can_split(a, stream);
  if (splits && splits_all(a)) return attend_split(a, cache, a.tokens, stream);
  a.split_tokens = splits && a.step.sequences > 1 ? kSplitTokens : 0;
  launch_kernel(a, cache, false, 1, stream);
  if (a.split_tokens > 0) attend_split(a, cache, a.split_tokens * a.step.sequences, stream);
}

}  // namespace moepp::cuda
