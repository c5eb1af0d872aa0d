// The destination of a kernel's work: the CPU's thread pool, or a CUDA stream. Each device casts it
// back to its own.
#pragma once

#include <cstdint>

namespace moepp {

class Queue {
 protected:
  Queue() = default;
  ~Queue() = default;
};

// The dense weight that a step multiplies by next after an op. `bytes_before`: experts' weights
// that a token reads before it.
struct WeightAhead {
  const void* data = nullptr;  // null: there is none
  int64_t bytes = 0, bytes_before = 0;
};

}  // namespace moepp
