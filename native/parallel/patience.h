// Waiting for other ranks by looking again and again.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

#include "host/thread_pool.h"

namespace moepp::parallel {

// The waits between two looks at something that nothing waits for with a deadline, as MPI. First
// next to nothing, because a step waits often and shortly. Soon it lets others run: the rank that
// it waits for may need this very core. A long wait takes next to no CPU.
class Patience {
  using Clock = std::chrono::steady_clock;

 public:
  void wait() const {
    constexpr std::chrono::microseconds kSpins(100), kYields(10000);
    const auto waited = Clock::now() - begin_;
    if (waited < kSpins) return ThreadPool::wait_a_little(0);
    if (waited < kYields) return std::this_thread::yield();
    std::this_thread::sleep_for(
        std::min<Clock::duration>(waited / 64, std::chrono::milliseconds(2)));
  }
  bool is_over(int64_t deadline_ms) const {
    return deadline_ms > 0 && Clock::now() - begin_ > std::chrono::milliseconds(deadline_ms);
  }

 private:
  const Clock::time_point begin_ = Clock::now();
};

}  // namespace moepp::parallel
