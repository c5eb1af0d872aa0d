#include "host/thread_pool.h"

#include <atomic>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>
#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#endif

#include "test.h"

namespace moepp::test {

// Every task once, on a valid thread, never two tasks on one thread at once.
static void run_job(ThreadPool& pool, int64_t tasks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
  std::vector<std::atomic<int>> busy(static_cast<size_t>(pool.threads()));
  std::atomic<int> bad{0};
  pool.parallel_for(tasks, [&](int64_t task, int thread) {
    if (thread < 0 || thread >= pool.threads() ||
        busy[static_cast<size_t>(thread)].fetch_add(1) != 0)
      bad++;
    runs[static_cast<size_t>(task)]++;
    pool.scratch(thread)[task % 64] = std::byte{1};
    busy[static_cast<size_t>(thread)].fetch_sub(1);
  });
  for (auto& count : runs) {
    if (count != 1) bad++;
  }
  EXPECT(bad == 0);
}

MOEPP_TEST(thread_pool_runs_every_task_once) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT(pool.threads() == threads);
    for (int64_t tasks : {0, 1, 2, 3, 17, 1000}) run_job(pool, tasks);
    for (int job = 0; job < 2000; job++) run_job(pool, 1 + job % 5);
  }
}

// A task's writes are visible to the caller, and the caller's writes to the tasks of the next job,
// without other locks.
MOEPP_TEST(thread_pool_orders_memory) {
  ThreadPool pool(4);
  std::vector<int64_t> values(257, 0);
  for (int job = 0; job < 500; job++) {
    pool.parallel_for(257, [&](int64_t task, int) { values[static_cast<size_t>(task)] += task; });
    values[0]++;
  }
  EXPECT(values[0] == 500);
  EXPECT(values[256] == 500 * 256);
}

MOEPP_TEST(thread_pool_serves_concurrent_callers) {
  constexpr int kCallers = 4;
  ThreadPool pool(3);
  std::atomic<int> running[kCallers] = {};  // tasks of each caller
  std::atomic<int> overlaps{0};
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; caller++) {
    callers.emplace_back([&, caller] {
      for (int job = 0; job < 300; job++) {
        pool.parallel_for(1 + (job + caller) % 7, [&](int64_t, int) {
          running[caller]++;
          for (int other = 0; other < kCallers; other++) {
            if (other != caller && running[other] != 0) overlaps++;
          }
          total++;
          running[caller]--;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  int64_t expected = 0;
  for (int caller = 0; caller < kCallers; caller++) {
    for (int job = 0; job < 300; job++) expected += 1 + (job + caller) % 7;
  }
  EXPECT(total == expected);
  EXPECT(overlaps == 0);
}

// A caller that has just had a turn comes behind all that wait. Of 15 rounds most must be so: the
// system may stop a thread before it asks.
MOEPP_TEST(thread_pool_takes_callers_in_turn) {
  constexpr int kWaiting = 4;
  ThreadPool pool(2);
  int last = 0;
  for (int round = 0; round < 15; round++) {
    std::atomic<int> asking{0}, served{0};
    std::vector<std::thread> waiting;
    pool.parallel_for(1, [&](int64_t, int) {
      for (int i = 0; i < kWaiting; i++) {
        waiting.emplace_back([&] {
          asking++;
          pool.parallel_for(1, [&](int64_t, int) { served++; });
        });
      }
      while (asking < kWaiting) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // from saying so to asking
    });
    pool.parallel_for(1, [&](int64_t, int) {
      if (served == kWaiting) last++;
    });
    for (std::thread& thread : waiting) thread.join();
    EXPECT(served == kWaiting);
  }
  EXPECT_MESSAGE(last > 10,
                 "in " + std::to_string(last) + " of 15 rounds all who waited came first");
}

MOEPP_TEST(thread_pool_is_destroyed_right_after_a_job) {
  for (int round = 0; round < 300; round++) {
    ThreadPool outer(2);
    ThreadPool pool(1 + round % 4);
    if (round % 3 != 0) run_job(pool, round % 6);
    // A pool may live within the lifetime of another, and even within a task of another.
    outer.parallel_for(2, [&](int64_t, int) {
      ThreadPool inner(2);
      std::atomic<int> count{0};
      inner.parallel_for(3, [&](int64_t, int) { count++; });
      EXPECT(count == 3);
    });
  }
}

MOEPP_TEST(thread_pool_wakes_parked_workers) {
  ThreadPool pool(4);
  for (int round = 0; round < 20; round++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> arrived{0};
    // Each task waits for the others: only with every worker awake does the job end.
    pool.parallel_for(4, [&](int64_t, int) {
      arrived++;
      while (arrived < 4) std::this_thread::yield();
    });
    EXPECT(arrived == 4);
  }
}

static double cpu_seconds() {
#if defined(_WIN32)  // whose clock() is a clock on the wall
  FILETIME start, end, kernel, user;
  GetProcessTimes(GetCurrentProcess(), &start, &end, &kernel, &user);
  return 1e-7 * (static_cast<double>(kernel.dwLowDateTime) + user.dwLowDateTime);
#else
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
#endif
}

MOEPP_TEST(thread_pool_burns_nothing_when_idle) {
  ThreadPool pool(4);
  run_job(pool, 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT(cpu_seconds() - before < 0.02);
}

MOEPP_TEST(thread_pool_scratch_is_aligned_and_apart) {
  ThreadPool pool(3);
  for (int thread = 0; thread < 3; thread++) {
    EXPECT(reinterpret_cast<uintptr_t>(pool.scratch(thread)) % 64 == 0);
    pool.scratch(thread)[kScratchBytes - 1] = std::byte{1};
    if (thread > 0)
      EXPECT(pool.scratch(thread) - pool.scratch(thread - 1) >=
             static_cast<ptrdiff_t>(kScratchBytes));
  }
}

static void write_file(const std::filesystem::path& path, const char* text) {
  std::filesystem::path folder;
  for (const auto& part : path.parent_path()) {
    folder /= part;
    std::filesystem::create_directory(folder);
  }
  std::ofstream(path, std::ios::binary) << text;
}

static int threads_of(const char* cgroup,
                      std::initializer_list<std::pair<const char*, const char*>> files) {
  namespace fs = std::filesystem;
  const std::string own = "moepp-cgroup-" + std::to_string(std::random_device()());
  const std::string name = (fs::temp_directory_path() / own).string();
  write_file(fs::path(name) / "proc/self/cgroup", cgroup);
  for (const auto& [path, text] : files) write_file(fs::path(name) / "sys/fs/cgroup" / path, text);
  const int threads = cgroup_threads(name);
  fs::remove_all(name);
  return threads;
}

MOEPP_TEST(available_threads_honours_cgroups) {
  EXPECT(available_threads() >= 1);
  EXPECT(cgroup_threads("/does/not/exist") == 0);
  EXPECT(threads_of("0::/\n", {}) == 0);
  EXPECT(threads_of("0::/\n", {{"cpu.max", "max 100000\n"}}) == 0);
  EXPECT(threads_of("0::/\n", {{"cpu.max", "300000 100000\n"}}) == 3);
  EXPECT(threads_of("0::/a/b\n",
                    {{"a/cpu.max", "250000 100000\n"}, {"a/b/cpu.max", "800000 100000\n"}}) == 2);
  EXPECT(threads_of("0::/host/path\n", {{"cpu.max", "50000 100000\n"}}) == 1);
  EXPECT(threads_of("5:memory:/x\n4:cpu,cpuacct:/x\n",
                    {{"cpu,cpuacct/x/cpu.cfs_quota_us", "400000\n"},
                     {"cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"}}) == 4);
  EXPECT(threads_of("4:cpu:/\n", {{"cpu/cpu.cfs_quota_us", "-1\n"},
                                  {"cpu/cpu.cfs_period_us", "100000\n"}}) == 0);
}

}  // namespace moepp::test
