// The stream that a step's kernels are submitted to, and the first error among them.
#pragma once

#include "cuda/simt/simt.h"
#include "queue.h"

namespace moepp::cuda {

class CudaQueue : public Queue {
 public:
  // compute_capability: 10 * major + minor.
  explicit CudaQueue(simt::Stream stream, int multiprocessors, int compute_capability = 80)
      : stream_(stream), multiprocessors_(multiprocessors), compute_capability_(compute_capability) {}

  static CudaQueue& from(Queue& queue) { return static_cast<CudaQueue&>(queue); }

  simt::Stream stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  int compute_capability() const { return compute_capability_; }

  // Memory for what kernels of one op leave to each other, aligned to 256 bytes; the next op may overwrite it. No result depends
  // on its size. attention splits contexts only where it holds one token of the longest context that the page table has room for:
  // 4 (D + 2) Hq ceil(M S / 64) bytes; with less than that per token of the step it takes several launches. 32 MiB are plenty.
  void set_workspace(void* data, int64_t bytes) {
    workspace_ = data;
    workspace_bytes_ = bytes;
  }
  void* workspace() const { return workspace_; }
  int64_t workspace_bytes() const { return workspace_bytes_; }

  // A launcher hands in what each launch returned; the device looks once per step.
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
  int multiprocessors_, compute_capability_;
  void* workspace_ = nullptr;
  int64_t workspace_bytes_ = 0;
  simt::Error first_error_ = simt::kSuccess;
};

}  // namespace moepp::cuda
