// Waiting for other ranks by looking again and again.
#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

#include "host/thread_pool.h"

namespace moepp::parallel {

// The waits between two looks at something that nothing waits for with a deadline, as MPI. First
// next to nothing, because a step waits often and shortly; a long wait takes next to no CPU.
class Patience {
  using Clock = std::chrono::steady_clock;

 public:
  void wait() {
    constexpr int kSpins = 20000;
    if (pauses_ < kSpins) return ThreadPool::wait_a_little(pauses_++);
    const auto waited = Clock::now() - begin_;
    std::this_thread::sleep_for(std::min<Clock::duration>(
        std::max<Clock::duration>(waited / 64, std::chrono::microseconds(20)),
        std::chrono::milliseconds(2)));
  }
  bool is_over(int64_t deadline_ms) const {
    return deadline_ms > 0 && Clock::now() - begin_ > std::chrono::milliseconds(deadline_ms);
  }

 private:
  const Clock::time_point begin_ = Clock::now();
  int pauses_ = 0;
};

}  // namespace moepp::parallel
