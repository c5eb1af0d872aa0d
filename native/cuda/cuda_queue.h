// The stream that a step's kernels are submitted to, and the first error among them.
#pragma once

#include <functional>
#include <utility>

#include "cuda/simt/simt.h"
#include "cuda/switches.h"
#include "queue.h"
#include "status.h"

namespace moepp::cuda {

// The order of kernels. CudaQueue::launch launches every kernel. Every thread calls await_inputs(),
// at one place, before it reads another kernel's output or writes anything. Since sm_90 a kernel's
// blocks may start while the last blocks of the kernel before still run. (That is programmatic
// dependent launch; in a recorded step it is the kind of the graph's edges.) So the code before
// await_inputs() is only arithmetic on arguments, and prefetches of weights. The emulation refuses
// a thread that ends without it. scripts/sass-check.mjs refuses a kernel without such an
// instruction.
//
// The next kernel is let go only after the wait, so that at most one is ahead. When a kernel
// starts, all but the one before it have ended. await_inputs() needs to be right about that one
// alone.
SIMT_DEVICE void await_inputs() {
  simt::wait_for_dependencies();
  simt::launch_dependents();
}

// Asks L2 for `bytes` of a weight, shared out among the threads of the grid. Only a hint: a wrong
// address costs time, not correctness.
SIMT_DEVICE void ask_for_weight(const void* data, int64_t bytes) {
  constexpr int64_t kLine = 128;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t at = thread * kLine; at < bytes; at += threads * kLine)
    simt::prefetch_l2(static_cast<const char*>(data) + at);
}
// Before await_inputs(), and nothing where no kernel starts early.
SIMT_DEVICE void prefetch_weight(const void* data, int64_t bytes) {
  if (SIMT_HAS_SM90) ask_for_weight(data, bytes);
}

// The architecture that the kernels at hand were compiled for. It may be older than the device: a
// build has code for some architectures, and CUDA takes the newest that the device can run. Kernels
// are chosen by it, and so is their launch.
struct Compiled {
  int capability;  // 10 * major + minor
  bool wgmma;      // compiled for sm_90a, which has it, and not for sm_90

  // As builds have it: sm_90a for Hopper.
  Compiled(int compute_capability)
      : capability(compute_capability), wgmma(compute_capability == 90) {}
  Compiled(int compute_capability, bool has_wgmma)
      : capability(compute_capability), wgmma(has_wgmma) {}
};

class CudaQueue;
class RankLink;
class StageList;
// Launches what is on the list (kernels/persistent/stages.h).
void launch_stages(StageList& list, CudaQueue& queue);

class CudaQueue : public Queue {
 public:
  explicit CudaQueue(simt::Stream stream, int multiprocessors, Compiled compiled = 80,
                     Switches switches = {})
      : stream_(stream),
        multiprocessors_(multiprocessors),
        compiled_(compiled),
        switches_(switches) {}

  static CudaQueue& from(Queue& queue) { return static_cast<CudaQueue&>(queue); }

  simt::Stream stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  const Compiled& compiled() const { return compiled_; }
  bool uses_wgmma() const { return compiled_.wgmma && !switches_.no_wgmma; }
  bool prefetches() const { return !switches_.no_prefetch; }
  bool splits_contexts() const { return !switches_.no_split; }
  bool fuses() const { return !switches_.no_fuse; }

  // Memory for results that kernels of one op leave to each other, aligned to 256 bytes; the next
  // op may overwrite it. attention splits a context if it holds 4 (D + 2) Hq bytes for each of its
  // ranges (attention/split.cuh), 8.5 MB at most. The longest that the page table has room for
  // decides. No result depends on more than that. With less per token of the step there are several
  // launches. Hopper's products copy x to it (gemm.h), in several launches where 2 bytes an element
  // and row are more, of float8 weights 1. On sm_89 and sm_120 products of float8 weights quantise
  // x to it, if it has room (grouped_gemm/sm89_float8.cu). 32 MiB are plenty.
  void set_workspace(void* data, int64_t bytes) {
    workspace_ = data;
    workspace_bytes_ = bytes;
  }
  // For so many bytes of results, which hold nothing yet.
  void* workspace(int64_t bytes) const {
    simt::forget(workspace_, static_cast<size_t>(bytes), stream_);
    return workspace_;
  }
  int64_t workspace_bytes() const { return workspace_bytes_; }

  // Zeros with which the blocks of one kernel find out which of them is the last to finish; a
  // kernel leaves zeros behind. Null: none.
  static constexpr int kCounters = 4096;
  void set_counters(unsigned* counters) { counters_ = counters; }
  unsigned* counters() const { return counters_; }

  // A weight that multiprocessors without work may ask L2 for. It stays there until it is read if
  // it and the experts before it take no more than three quarters.
  void look_ahead(const WeightAhead& weight) {
    const bool stays = (weight.bytes + weight.bytes_before) * 4 <= l2_bytes_ * 3;
    ahead_ = stays && prefetches() ? weight : WeightAhead();
  }
  void set_l2_bytes(int64_t bytes) { l2_bytes_ = bytes; }
  const WeightAhead& ahead() const { return ahead_; }

  // The most shared memory that a block may have. A launch that asks for more fails with
  // kOutOfResources, and for how much is kept.
  void set_block_shared_bytes(size_t bytes) { block_shared_bytes_ = bytes; }
  size_t block_shared_bytes() const { return block_shared_bytes_; }
  size_t refused_shared_bytes() const { return refused_shared_bytes_; }

  // Ops of a step of one token that are to be one kernel, since sm_90. Null: each is launched.
  void set_stages(StageList* stages) { stages_ = stages; }
  StageList* stages() const { return stages_; }
  // Launches those that wait for it, before anything else comes into the stream.
  void flush() {
    if (stages_ != nullptr) launch_stages(*stages_, *this);
  }

  // Nothing once there is an error: what a kernel would read may not be there.
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), simt::Launch how, Arguments&&... arguments) {
    if (!how.cooperative) flush();
    if (first_error_ != simt::kSuccess) return;
    if (how.smem_bytes > block_shared_bytes_) {
      refused_shared_bytes_ = how.smem_bytes;
      return check(simt::kOutOfResources);
    }
    how.stream = stream_;
    // Without the wait that code has since sm_90, an early start would be a race. The emulation
    // demands the wait of every kernel that has one. A cooperative kernel starts when it can hold
    // the whole device.
    how.programmatic = !switches_.no_pdl && !how.cooperative &&
                       (compiled_.capability >= 90 || (SIMT_EMULATED && SIMT_HAS_SM90));
    check(simt::launch(kernel, how, static_cast<Arguments&&>(arguments)...));
    if (switches_.sync) check(simt::synchronize(stream_));
  }

  // Work of the host in the midst of a step: an exchange with other ranks. It runs now. In a
  // recorded step it runs at this place of each replay. A failure of it is the group's.
  using HostWork = std::function<Status()>;
  void run_on_host(HostWork work) {
    flush();
    if (first_error_ != simt::kSuccess) return;
    if (recorder_) return check(recorder_(std::move(work)));
    work();
  }
  // While a step is recorded; else null.
  void set_recorder(std::function<simt::Error(HostWork)> recorder) {
    recorder_ = std::move(recorder);
  }

  // The link to other ranks that the step's work in the stream waits for, or null.
  void set_link(RankLink* link) { link_ = link; }
  RankLink* link() const { return link_; }

  // The first error among the launches and what is handed in here; the device looks after each op.
  void check(simt::Error error) {
    if (first_error_ == simt::kSuccess) first_error_ = error;
  }
  simt::Error take_error() {
    const simt::Error error = first_error_;
    first_error_ = simt::kSuccess;
    return error;
  }

 private:
  simt::Stream stream_;
  int multiprocessors_;
  Compiled compiled_;
  Switches switches_;
  void* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
  unsigned* counters_ = nullptr;
  int64_t l2_bytes_ = 0;
  WeightAhead ahead_;
  StageList* stages_ = nullptr;
  std::function<simt::Error(HostWork)> recorder_;
  RankLink* link_ = nullptr;
  simt::Error first_error_ = simt::kSuccess;
  size_t block_shared_bytes_ = SIZE_MAX, refused_shared_bytes_ = 0;
};

}  // namespace moepp::cuda
