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
  simt::Error first_error_ = simt::kSuccess;
};

}  // namespace moepp::cuda
