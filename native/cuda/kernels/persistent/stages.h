// One kernel for many ops of a decode step of one token, in place of a launch for each. A queue
// with a list of stages puts ops there, in order. The list is launched before anything else is, and
// at the end of the step (CudaQueue::flush).
//
// The kernel has one block on each multiprocessor, all at the same time. A stage is an op with the
// blocks that its own kernel would have had. They are shared out among the kernel's, and have the
// bits that they would have had. A stage begins where the one before has ended: `done` counts its
// blocks, and once more where the last of them has gone on (stream::ThenRoute).
//
// One warp of each block also copies the weights of its parts of all stages to a ring of pages in
// shared memory, in order. It needs a free page, and the routing where experts come, but no other
// stage to have ended. So memory has work while blocks wait for each other. See persistent.cu.
#pragma once

#include <memory>
#include <vector>

#include "cuda/kernels/attention/attention.h"
#include "cuda/kernels/combine/then_combine.cuh"
#include "cuda/kernels/grouped_gemm/rotated_columns.cuh"
#include "cuda/kernels/router/then_route.cuh"

namespace moepp::cuda {

enum class StageKind { kColumns, kRotated, kRoute, kCombine, kAttend };

struct Stage {
  StageKind kind;
  int blocks, across;  // all; of a product those of a group, of attention those of a slice
  // Products.
  Gemm g;
  int splits;
  int routed_by;  // the stage that makes g.offsets; -1: a kernel before this one
  int64_t group_bytes, row_bytes, scales_at;  // of the weight; in a group, of blocked ones
  union {
    stream::RotatedColumns rotated;
    stream::ThenRoute route;
    stream::ThenCombine combine;
    struct {
      Attention a;
      int slices;
      bool bf16, mma;  // the cache; by mma.cuh
    } attend;
  };

  Stage() : g(), attend() {}

  // True if the last block to end goes on.
  SIMT_HOST_DEVICE bool ends() const {
    return kind == StageKind::kRoute || kind == StageKind::kCombine;
  }
};
static_assert(std::is_trivially_copyable_v<Stage>, "it is copied to the device");

// Stages on their way to the device, and their memory there: counters, then stages.
class StageList {
 public:
  static constexpr int kMost = 512;

  // `recorded`: a captured step's own. Its stages are uploaded once the capture has ended.
  static simt::Error create(bool recorded, simt::Stream stream, std::unique_ptr<StageList>* list);
  ~StageList() { simt::release(memory_); }
  StageList(const StageList&) = delete;
  StageList& operator=(const StageList&) = delete;

  // `bytes`: of shared memory, that the stage needs beside the ring. False: there is no room.
  bool add(const Stage& stage, size_t bytes, const CudaQueue& queue);
  // Launches the stages that wait for it.
  void launch(CudaQueue& queue);
  simt::Error upload(simt::Stream stream) { return upload(0, stream); }
  // A new step: those that wait are dropped.
  void restart() { stages_.clear(), launched_ = 0, bytes_ = 0; }

 private:
  StageList(void* memory, bool recorded) : memory_(memory), recorded_(recorded) {}
  simt::Error upload(size_t first, simt::Stream stream);
  unsigned* counters() const { return static_cast<unsigned*>(memory_); }
  Stage* device_stages() const { return reinterpret_cast<Stage*>(counters() + kMost); }

  void* memory_;
  bool recorded_;
  std::vector<Stage> stages_;
  size_t launched_ = 0, bytes_ = 0;  // bytes: what those to be launched need
};

// Puts one token's attention, split over its context, on the queue's list. False: it has none, or
// no room.
bool add_stage(const Attention& a, DType cache, CudaQueue& queue);

}  // namespace moepp::cuda
