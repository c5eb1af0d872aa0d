// The threads of the CPU device. One pool of a size serves the whole process; each parallel_for is
// one job, and the caller works too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "queue.h"

namespace moepp {

// Bytes that each thread may use within a task, aligned to 64.
constexpr size_t kScratchBytes = size_t{2} << 20;
// Bytes that the tasks of one job may share, aligned to 64.
constexpr size_t kJobScratchBytes = size_t{32} << 20;

class ThreadPool final : public Queue {
 public:
  // threads >= 1, the caller included: threads - 1 workers are started, or as many as the system
  // grants. Throws std::bad_alloc when there is no memory for the threads' scratch.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls run(context, task, thread) once for every task in [0, tasks), thread in [0, threads()),
  // and returns when all are done. Tasks are handed out in ascending order, one at a time. Jobs of
  // several callers are done one after another, first come, first served. run must not throw, and
  // must not start another job.
  void parallel_for(int64_t tasks, void (*run)(const void* context, int64_t task, int thread),
                    const void* context);

  template <class Body>  // body(int64_t task, int thread)
  void parallel_for(int64_t tasks, const Body& body) {
    parallel_for(
        tasks,
        [](const void* context, int64_t task, int thread) {
          (*static_cast<const Body*>(context))(task, thread);
        },
        static_cast<const void*>(&body));
  }

  // kScratchBytes for the use of one thread until its task ends. Contents are unspecified.
  std::byte* scratch(int thread);
  // kJobScratchBytes for the use of one job's tasks until it ends, in whatever way they share them.
  std::byte* job_scratch();

  // For a task that waits for another thread's: a pause, and after many of them a yield. `pauses`
  // counts from 0.
  static void wait_a_little(int pauses);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Threads that this process may use: the cores it may run on, cut to the cgroup's CPU quota (v1 and
// v2), at least 1.
int available_threads();

// The CPU quota of this process's cgroup and its parents in whole threads, at least 1; 0 without
// one. root is "" but in tests.
int cgroup_threads(const std::string& root);

}  // namespace moepp
