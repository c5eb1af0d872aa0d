#include "read_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>

#include "host/platform.h"

namespace moepp::cpu {

constexpr int64_t kTaskBytes = int64_t{1} << 20;
constexpr int64_t kLeastBytes = int64_t{1} << 30;
// Of the last-level cache. A cache that replaces lines at random still holds a share h = exp(-n (1
// - h)) of n times its size that are read in turn: 20 % of twice, 2 % of four times.
constexpr int64_t kCaches = 4;
constexpr int64_t kWakeBytes = 32 * kTaskBytes;  // read before the clock starts

// A cache line: GCC and Clang make vectors of it of whatever width there is.
typedef uint64_t Line __attribute__((vector_size(64), may_alias));

static uint64_t sum_of(const uint64_t* data, int64_t bytes) {
  const Line* lines = reinterpret_cast<const Line*>(data);
  Line sum = {};
  for (int64_t i = 0; i < bytes / 64; i += 8) {
    // of each line, it reads 20 to 26 GB/s on an EPYC, where one of eight gives 28 to 31
    __builtin_prefetch(lines + i + 64);
    for (int j = 0; j < 8; j++) sum ^= lines[i + j];
  }
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

ReadBandwidth::~ReadBandwidth() {
  if (data_ != nullptr) release_pages(data_, bytes_);
}

// Packed weights lie in huge pages where the system gives them, and so does this. The threads touch
// it: with several memory controllers each has a part.
Status ReadBandwidth::take(ThreadPool& pool) {
  const int64_t wanted = std::min(std::max(kLeastBytes, kCaches * last_level_cache_bytes()), most_);
  bytes_ = std::max(kTaskBytes, wanted / kTaskBytes * kTaskBytes);
  data_ = static_cast<uint64_t*>(allocate_pages(bytes_));
  if (data_ == nullptr) {
    return Status::error(
        Code::kOutOfMemory,
        std::to_string(bytes_) + " bytes to measure the bandwidth with could not be allocated");
  }
  pool.parallel_for(bytes_ / kTaskBytes, [&](int64_t task, int) {
    std::memset(data_ + task * (kTaskBytes / 8), 1, kTaskBytes);
  });
  return {};
}

double ReadBandwidth::read(int64_t bytes, ThreadPool& pool) {
  const int64_t tasks = std::max<int64_t>(1, bytes / kTaskBytes), first = next_;
  next_ = (first + tasks) % (bytes_ / kTaskBytes);
  std::atomic<uint64_t> sink{0};  // keeps the sums alive
  const auto start = std::chrono::steady_clock::now();
  pool.parallel_for(tasks, [&](int64_t task, int) {
    const int64_t at = (first + task) % (bytes_ / kTaskBytes);
    sink.fetch_xor(sum_of(data_ + at * (kTaskBytes / 8), kTaskBytes), std::memory_order_relaxed);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(tasks * kTaskBytes) / seconds.count();
}

Status ReadBandwidth::measure(int64_t bytes, ThreadPool& pool, double* bytes_per_second) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (data_ == nullptr) MOEPP_CHECK(take(pool));
  read(std::min(bytes, kWakeBytes), pool);
  *bytes_per_second = read(bytes, pool);
  return {};
}

}  // namespace moepp::cpu
