// The destination of a kernel's work: the CPU's thread pool, or a CUDA stream. Each device casts it
// back to its own.
#pragma once

namespace moepp {

class Queue {
 protected:
  Queue() = default;
  ~Queue() = default;
};

}  // namespace moepp
