#include "read_bandwidth.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>

#include "../platform.h"
#include "thread_pool.h"

namespace moepp::cpu {

constexpr int64_t kBytes = int64_t{256} << 20;
constexpr int64_t kTaskBytes = int64_t{1} << 20;
constexpr int kPasses = 8;  // after one that wakes the threads
// Packed weights lie in huge pages (cpu_device.cc), so the ceiling is read from such too.
constexpr size_t kHugePage = size_t{2} << 20;

static uint64_t sum_of(const uint64_t* data, int64_t words) {
  uint64_t sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t i = 0; i < words; i += 8) {
    __builtin_prefetch(data + i + 512);
    for (int lane = 0; lane < 8; lane++) sums[lane] ^= data[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum ^= lane;
  return sum;
}

Status measure_read_bandwidth(int threads, double* bytes_per_second) {
  ThreadPool pool(threads > 0 ? threads : available_threads());
  const std::unique_ptr<uint64_t, void (*)(void*)> data(static_cast<uint64_t*>(allocate_pages(kBytes)),
                                                        [](void* pages) { release_pages(pages, kBytes); });
  if (data == nullptr) return Status::error(Code::kOutOfMemory, "256 MiB to measure the bandwidth could not be allocated");
  std::memset(data.get(), 1, kBytes);
  std::atomic<uint64_t> sink{0};  // keeps the sums alive
  std::chrono::steady_clock::time_point start;
  for (int pass = -1; pass < kPasses; pass++) {
    if (pass == 0) start = std::chrono::steady_clock::now();
    pool.parallel_for(kBytes / kTaskBytes, [&](int64_t task, int) {
      sink.fetch_xor(sum_of(data.get() + task * (kTaskBytes / 8), kTaskBytes / 8), std::memory_order_relaxed);
    });
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  *bytes_per_second = static_cast<double>(kBytes) * kPasses / seconds.count();
  return {};
}

}  // namespace moepp::cpu
