// Where a kernel's work is submitted: the CPU's thread pool, or a CUDA stream. Each device casts it
// back to its own.
#pragma once

namespace moepp {

class Queue {
 protected:
  Queue() = default;
  ~Queue() = default;
};

}  // namespace moepp
