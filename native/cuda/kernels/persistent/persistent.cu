// The kernel that walks through a list of stages (stages.h), and the host's side of the list. It
// has not run on a GPU yet: it is tested under emulation (native/test/simt/persistent_test.cu).
//
// Blocks wait for each other, so that all must run at once: the launch is cooperative.
// SASS sm_90a,sm_100,sm_120 run_stages: UBLKCP FFMA LDS SHFL HMMA registers<=255
#include "cuda/kernels/persistent/stages.h"

#include "cuda/kernels/attention/f32.cuh"
#include "cuda/kernels/attention/mma.cuh"
#include "cuda/kernels/persistent/ring.cuh"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

namespace {

// A function that is called and not inlined. In one function the compiler kept addresses of all
// kinds of stages in registers, and spilled them. A call saves registers once a stage.
#if SIMT_EMULATED
#define MOEPP_STAGE inline
#else
#define MOEPP_STAGE __device__ __noinline__
#endif

constexpr int kThreads = stream::kThreads, kCopyWarp = stream::kWarps - 1;

struct Stages {
  const Stage* list;
  unsigned* done;  // a counter of each, zero before and after
  int count, pages;
  unsigned work_bytes;  // of shared memory, in front of the ring
  bool prefetch;
};

SIMT_DEVICE bool is_copy_warp() {
  return static_cast<int>(threadIdx.x) / 32 == kCopyWarp;
}

// Until a stage has ended in all blocks. By one thread.
SIMT_DEVICE void await_end(const Stages& stages, int stage) {
  const unsigned ends = gridDim.x + (stages.list[stage].ends() ? 1 : 0);
  while (simt::load_acquire(stages.done + stage) < ends) {
  }
}

SIMT_DEVICE int stored_row(const Stage& stage, int warp, int j) {
  const int row = stage.kind == StageKind::kRotated
                      ? stage.rotated.stored_row(stage.g, warp, j)
                      : stream::Columns().stored_row(stage.g, warp, j);
  return min(row, stage.g.weight_rows - 1);
}

// Asks L2 for the words with the scales of a block's rows, for their bytes at .. at + bytes - 1.
// They are 3 to 6 % of the weights, and are read there a page later.
SIMT_DEVICE void prefetch_scales(const Stage& stage, const unsigned char* group, int first_warp,
                                 int at, int bytes) {
  const Gemm& g = stage.g;
  const int block_bytes = g.dtype == DType::kI4 ? Int4Weight::kBlockBytes : Int8Weight::kBlockBytes,
            pairs = 2 * (stream::kWarps / stage.splits), blocks = bytes / block_bytes,
            unit = static_cast<int>(kScaleRows),
            scale_rows = (g.weight_rows + unit - 1) / unit * unit;
  const auto* words = reinterpret_cast<const uint32_t*>(group + stage.scales_at) +
                      static_cast<int64_t>(at / block_bytes) * scale_rows;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < pairs * blocks; i += 32) {
    const int row = stored_row(stage, first_warp + i % pairs / 2, i % 2 * 2);
    simt::prefetch_l2(words + static_cast<int64_t>(i / pairs) * scale_rows + row);
  }
}

// The place of the next page to be filled, among the block's parts of all stages. Of one warp,
// which fills pages whenever it has taken one, and before and after it waits for other blocks.
struct Copies {
  int stage = 0, part = static_cast<int>(blockIdx.x), at = 0;  // at: bytes of a row before it
  int now = 0;                         // the stage that the block computes; those before have ended
  int group = 0;                       // of a part that has begun
  const unsigned char* row = nullptr;  // the lane's in it; null: none has begun

  SIMT_DEVICE void move_to(int next) {
    stage = next, part = static_cast<int>(blockIdx.x), at = 0;
    row = nullptr;
  }
  // The block begins a stage: no page of those before is wanted any more.
  SIMT_DEVICE void start(int begun) {
    now = begun;
    if (stage < now) move_to(now);
  }

  // False: there is no page, or its expert is not known yet.
  SIMT_DEVICE bool find(const Stages& stages) {
    for (; row == nullptr && stage < stages.count; move_to(stage + 1)) {
      const Stage& s = stages.list[stage];
      if (s.kind == StageKind::kAttend || part >= s.blocks) continue;
      if (s.routed_by >= now) return false;
      group = occupied_group(s.g, part / s.across);
      if (group < 0) continue;
      row = weights_of(s) + stored_row(s, first_warp(s) + lane() / stream::kWeightRows,
                                       lane() % stream::kWeightRows) *
                                s.row_bytes;
      return true;
    }
    return row != nullptr;
  }

  SIMT_DEVICE void fill(const Stages& stages, Ring& ring) {
    while (ring.has_room() && find(stages)) {
      const Stage& s = stages.list[stage];
      const int per_block = stream::kWarps / s.splits, row_bytes = s.splits * Ring::kRowBytes,
                all = static_cast<int>(s.row_bytes), bytes = min(row_bytes, all - at);
      if (stages.prefetch && s.scales_at < s.group_bytes)
        prefetch_scales(s, weights_of(s), first_warp(s), at, bytes);
      ring.fill(row + at, per_block * stream::kWeightRows, row_bytes, bytes);
      at += row_bytes;
      if (at < all) continue;
      part += static_cast<int>(gridDim.x), at = 0;
      row = nullptr;
    }
  }

 private:
  SIMT_DEVICE static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  SIMT_DEVICE int first_warp(const Stage& s) const {
    return part % s.across * (stream::kWarps / s.splits);
  }
  SIMT_DEVICE const unsigned char* weights_of(const Stage& s) const {
    return static_cast<const unsigned char*>(s.g.weight) + group * s.group_bytes;
  }
};

// A block on its way through the stages.
struct Walk {
  const Stages& stages;
  Ring ring;
  Copies copies;
};

// As stream::stream_group, with the weights from the ring.
template <class W, class Epilogue>
MOEPP_STAGE void multiply(Walk& caller, const Stage& stage, const Epilogue& epilogue) {
  Walk walk = caller;  // in registers
  using C = stream::Config<W, 1, true>;
  const Gemm g = stage.g;
  const int splits = stage.splits, lane = static_cast<int>(threadIdx.x) % 32,
            warp_in_block = static_cast<int>(threadIdx.x) / 32, split = warp_in_block % splits,
            per_block = stream::kWarps / splits, units = stream::row_units<C>(g);
  for (int i = static_cast<int>(blockIdx.x); i < stage.blocks; i += static_cast<int>(gridDim.x)) {
    const int group = occupied_group(g, i / stage.across);
    if (group < 0) break;
    const int warp = i % stage.across * per_block + warp_in_block / splits,
              row = first_row(g, group), end = end_row(g, group);
    const auto place = epilogue.place(g, warp, row, end);
    int x[1];
    stream::find_x(g, group, row, end, x);
    float sum[C::kSums] = {};
#pragma unroll 1
    for (int first = 0; first < units; first += 32 * splits) {
      const int at = split * 32 + lane, unit = first + at;
      const bool there = unit < units;
      uint4 packed[stream::kWeightRows];
      const auto take = [&] {
        walk.ring.take(warp_in_block / splits * stream::kWeightRows, splits * Ring::kRowBytes,
                       at * 16, there, packed);
        if (is_copy_warp()) walk.copies.fill(walk.stages, walk.ring);
      };
      if constexpr (C::kQuantised) {
        constexpr int kUnits = W::kBlockBytes / 16;
        uint32_t scales[stream::kWeightRows];
        const QuantisedGroup<W> w(g.weight, group, g.weight_rows, g.pitch);
        if (there) stream::load_scales(g, epilogue, w, warp, unit / kUnits, scales);
        take();
        if (there) stream::add_unit<C>(g, packed, scales, unit, x, sum);
      } else {
        take();
        if (there) stream::add_unit<C>(g, packed, unit, x, sum);
      }
    }
    const float total = stream::add_splits(stream::deal(sum), split, splits);
    if (split == 0) epilogue.write(g, place, C::kSums, total);
  }
  caller.ring = walk.ring;
  caller.copies = walk.copies;
}

template <class Epilogue>
SIMT_DEVICE void multiply(Walk& walk, const Stage& stage, const Epilogue& epilogue) {
  switch (stage.g.dtype) {
    case DType::kF32:
      return multiply<float>(walk, stage, epilogue);
    case DType::kI8:
      return multiply<Int8Weight>(walk, stage, epilogue);
    case DType::kI4:
      return multiply<Int4Weight>(walk, stage, epilogue);
    case DType::kF8:
      return multiply<Float8Weight>(walk, stage, epilogue);
    default:
      return multiply<simt::bf16>(walk, stage, epilogue);
  }
}

// attend(a, place) for the block's places, by the threads that attention has.
template <class Attend>
SIMT_DEVICE void for_places(const Stage& stage, const Attend& attend) {
  if (threadIdx.x >= kSplitThreads) return;
  const Attention& a = stage.attend.a;
  for (int i = static_cast<int>(blockIdx.x); i < stage.blocks; i += static_cast<int>(gridDim.x)) {
    const int in_slice = i % stage.across;
    attend(a, SplitPlace{in_slice / a.step.kv_heads, in_slice % a.step.kv_heads, i / stage.across,
                         stage.attend.slices});
    simt::sync_threads<kSplitThreads>();
  }
}

template <int kD>
MOEPP_STAGE void attend_mma(const Stage& stage) {
  for_places(stage, [](const Attention& a, const SplitPlace& at) {
    mma::attend_rows<mma::Config<kD, true>>(a, at);
  });
}
template <class E, int kDims>
MOEPP_STAGE void attend_f32(const Stage& stage) {
  for_places(stage, [](const Attention& a, const SplitPlace& at) {
    f32::attend_rows<f32::Config<E, kDims, true>>(a, at);
  });
}

SIMT_DEVICE void attend_context(const Stage& stage) {
  const KvStep& step = stage.attend.a.step;
  if (!stage.attend.mma) {
    const bool wide = f32::is_wide(stage.attend.a);
    if (stage.attend.bf16)
      return wide ? attend_f32<simt::bf16, 8>(stage) : attend_f32<simt::bf16, 4>(stage);
    return wide ? attend_f32<float, 8>(stage) : attend_f32<float, 4>(stage);
  }
  switch (step.key_dim) {
    case 64:
      return attend_mma<64>(stage);
    case 80:
      return attend_mma<80>(stage);
    case 96:
      return attend_mma<96>(stage);
    case 112:
      return attend_mma<112>(stage);
    default:
      return attend_mma<128>(stage);
  }
}

MOEPP_STAGE void end(const Stage& stage) {
  if (stage.kind == StageKind::kRoute) stage.route.end();
  if (stage.kind == StageKind::kCombine) stage.combine.end();
}

// The block has done its part of a stage. The last block of the last stage leaves zeros behind: by
// then no thread looks at a counter.
SIMT_DEVICE void end_stage(const Stages& stages, int s) {
  const Stage& stage = stages.list[s];
  if (!counts_last<kThreads>(stages.done + s, gridDim.x, simt::smem<int>())) return;
  if (stage.ends()) end(stage);
  if (s + 1 == stages.count) {
    for (int i = static_cast<int>(threadIdx.x); i < stages.count; i += kThreads) stages.done[i] = 0;
  } else if (stage.ends()) {
    simt::sync_threads<kThreads>();
    if (threadIdx.x == 0) simt::atomic_add_acq_rel(stages.done + s, 1);
  }
}

SIMT_DEVICE void begin_stage(Walk& walk, int s) {
  if (is_copy_warp()) {
    walk.copies.fill(walk.stages, walk.ring);
    if (s > 0 && threadIdx.x % 32 == 0) await_end(walk.stages, s - 1);
    __syncwarp();
    walk.copies.start(s);
    walk.copies.fill(walk.stages, walk.ring);
  }
  simt::sync_threads<kThreads>();
}

__global__ void __launch_bounds__(kThreads, 1) run_stages(const __grid_constant__ Stages stages) {
  SIMT_REQUIRES(SIMT_HAS_SM90) {
    Walk walk = {stages, {simt::smem<unsigned char>() + stages.work_bytes, stages.pages}, {}};
    if (threadIdx.x == 0) walk.ring.init();
    await_inputs();
    __syncthreads();
    for (int s = 0; s < stages.count; s++) {
      const Stage& stage = stages.list[s];
      begin_stage(walk, s);
      if (stage.kind == StageKind::kAttend) {
        attend_context(stage);
      } else if (stage.kind == StageKind::kRotated) {
        multiply(walk, stage, stage.rotated);
      } else {
        multiply(walk, stage, stream::Columns());
      }
      end_stage(stages, s);
    }
  }
}

// ---- The host ----

// Pages that the ring has beside `bytes`.
int pages_beside(size_t bytes, const CudaQueue& queue) {
  const size_t all = queue.block_shared_bytes();
  for (int pages = Ring::kMost; pages >= Ring::kFewest; pages--) {
    if (bytes + Ring::bytes(pages) <= all) return pages;
  }
  return 0;
}

size_t ring_start(size_t bytes) {
  return (bytes + Ring::kAlignment - 1) / Ring::kAlignment * Ring::kAlignment;
}

Stage product_stage(StageKind kind, const Gemm& g, int splits, int per_group) {
  Stage stage;
  stage.kind = kind;
  stage.across = per_group;
  stage.blocks = per_group * min(g.groups, g.rows);
  stage.g = g;
  stage.splits = splits;
  stage.row_bytes = weight_row_bytes(g.dtype, g.k);
  stage.scales_at = g.weight_rows * stage.row_bytes;
  stage.group_bytes = stage.scales_at +
                      (is_blocked(g.dtype) ? quant_blocks(g.k) * scale_rows(g.weight_rows) * 4 : 0);
  return stage;
}

bool add(const Stage& stage, size_t bytes, CudaQueue& queue) {
  StageList* list = queue.stages();
  return list != nullptr && list->add(stage, bytes, queue);
}

}  // namespace

simt::Error StageList::create(bool recorded, simt::Stream stream,
                              std::unique_ptr<StageList>* list) {
  void* memory = nullptr;
  const simt::Error error = simt::allocate(&memory, kMost * (sizeof(unsigned) + sizeof(Stage)));
  if (error != simt::kSuccess) return error;
  list->reset(new StageList(memory, recorded));
  return simt::clear(memory, kMost * sizeof(unsigned), stream);
}

bool StageList::add(const Stage& stage, size_t bytes, const CudaQueue& queue) {
  bytes = max(bytes, bytes_);
  if (stages_.size() == kMost || pages_beside(ring_start(bytes), queue) == 0) return false;
  bytes_ = bytes;
  stages_.push_back(stage);
  stages_.back().routed_by = -1;
  if (stage.g.offsets == nullptr) return true;
  for (size_t i = launched_; i + 1 < stages_.size(); i++) {
    if (stages_[i].kind == StageKind::kRoute)
      stages_.back().routed_by = static_cast<int>(i - launched_);
  }
  return true;
}

simt::Error StageList::upload(size_t first, simt::Stream stream) {
  const size_t bytes = (stages_.size() - first) * sizeof(Stage);
  if (bytes == 0) return simt::kSuccess;
  return simt::copy_to_device(device_stages() + first, stages_.data() + first, bytes, stream);
}

void StageList::launch(CudaQueue& queue) {
  const size_t first = launched_, bytes = ring_start(bytes_);
  const int count = static_cast<int>(stages_.size() - first);
  if (count == 0) return;
  launched_ = stages_.size(), bytes_ = 0;
  if (!recorded_) queue.check(upload(first, queue.stream()));
  const int pages = pages_beside(bytes, queue);
  simt::Launch how = {dim3(static_cast<unsigned>(queue.multiprocessors())), dim3(kThreads),
                      bytes + Ring::bytes(pages)};
  how.cooperative = true;
  queue.launch(run_stages, how,
               Stages{device_stages() + first, counters() + first, count, pages,
                      static_cast<unsigned>(bytes), queue.prefetches()});
}

void launch_stages(StageList& list, CudaQueue& queue) {
  list.launch(queue);
}

bool add_stage(const Attention& a, DType cache, CudaQueue& queue) {
  Stage stage;
  stage.kind = StageKind::kAttend;
  stage.attend.a = a;
  stage.attend.bf16 = cache == DType::kBf16;
  stage.attend.mma = has_mma(a, cache, queue.compiled().capability);
  stage.across = a.units * a.row_blocks() * a.step.kv_heads;
  stage.attend.slices = min(a.ranges, max(1, queue.multiprocessors() / stage.across));
  stage.blocks = stage.across * stage.attend.slices;
  const size_t bytes = stage.attend.mma ? mma::split_smem_bytes(a) : f32::smem_bytes(a);
  return add(stage, bytes, queue);
}

namespace stream {

bool add_stage(const Gemm& g, int splits, int per_group, const Columns&, size_t bytes,
               CudaQueue& queue) {
  if (g.group_step != 0) return false;  // Columns asks blockIdx for the head
  return add(product_stage(StageKind::kColumns, g, splits, per_group), bytes, queue);
}
bool add_stage(const Gemm& g, int splits, int per_group, const RotatedColumns& epilogue,
               size_t bytes, CudaQueue& queue) {
  Stage stage = product_stage(StageKind::kRotated, g, splits, per_group);
  stage.rotated = epilogue;
  return add(stage, bytes, queue);
}
bool add_stage(const Gemm& g, int splits, int per_group, const ThenRoute& epilogue, size_t bytes,
               CudaQueue& queue) {
  Stage stage = product_stage(StageKind::kRoute, g, splits, per_group);
  stage.route = epilogue;
  return add(stage, bytes, queue);
}
bool add_stage(const Gemm& g, int splits, int per_group, const ThenCombine& epilogue, size_t bytes,
               CudaQueue& queue) {
  Stage stage = product_stage(StageKind::kCombine, g, splits, per_group);
  stage.combine = epilogue;
  return add(stage, bytes, queue);
}

}  // namespace stream

}  // namespace moepp::cuda
