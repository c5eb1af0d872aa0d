// Measures how fast this machine reads memory: the ceiling of decoding.
#pragma once

#include <cstdint>
#include <mutex>

#include "../status.h"
#include "host/thread_pool.h"

namespace moepp::cpu {

// Memory that no cache holds, and its reading. The first measurement takes and touches it, and the
// others keep it. Touching 1 GiB takes 0.1 to 1.8 s (two processors of a virtual machine, an EPYC).
class ReadBandwidth {
 public:
  // Takes `most` bytes at most; by itself it would take 1 GiB, or four times the last-level cache
  // where that is more.
  explicit ReadBandwidth(int64_t most) : most_(most) {}
  ~ReadBandwidth();
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;

  // Bytes per second that the pool's threads read of the next `bytes` of that memory, in turn.
  Status measure(int64_t bytes, ThreadPool& pool, double* bytes_per_second);

 private:
  Status take(ThreadPool& pool);
  double read(int64_t bytes, ThreadPool& pool);

  const int64_t most_;
  std::mutex mutex_;  // held for a measurement
  uint64_t* data_ = nullptr;
  int64_t bytes_ = 0, next_ = 0;
};

}  // namespace moepp::cpu
