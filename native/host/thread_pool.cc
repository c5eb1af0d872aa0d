#include "thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace moepp {

namespace {

// An idle worker spins this long, then parks. The ops of a step follow each other within a few
// microseconds, so within a step no worker parks. A process that waits for its next request burns
// nothing.
constexpr auto kSpinTime = std::chrono::microseconds(50);
constexpr int kPausesPerClockRead = 32;
constexpr int kPausesBeforeYield = 4096;

// The word that callers and workers agree on: | generation of the job | stopping | open | workers
// inside |. A worker enters a job only by raising the count while the job is open. The caller
// returns only when the job is closed and the count is 0. So a worker that wakes late finds its job
// closed and never sees the fields of another one. A short job does not wait for workers to wake.
constexpr uint64_t kInsideMask = 0xffff;
constexpr uint64_t kOpen = uint64_t{1} << 16;
constexpr uint64_t kStopping = uint64_t{1} << 17;
constexpr int kGenerationShift = 18;

uint64_t generation(uint64_t word) {
  return word >> kGenerationShift;
}

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A fair lock: it is taken in the order of the requests. A caller that runs one job after the other
// does not keep others out. Without contention it is two atomic additions and asks nothing of the
// system.
class Turns {
 public:
  void lock() {
    const uint64_t ticket = next_.fetch_add(1, std::memory_order_seq_cst);
    if (serving_.load(std::memory_order_seq_cst) == ticket) return;
    std::unique_lock<std::mutex> lock(waiting_);
    turn_.wait(lock, [&] { return serving_.load(std::memory_order_acquire) == ticket; });
  }
  void unlock() {
    const uint64_t served = serving_.fetch_add(1, std::memory_order_seq_cst) + 1;
    // a caller that takes a ticket after this look sees its number served
    if (next_.load(std::memory_order_seq_cst) == served) return;
    // a caller between its last look and its wait holds the mutex
    { std::lock_guard<std::mutex> lock(waiting_); }
    turn_.notify_all();
  }

 private:
  std::atomic<uint64_t> next_{0}, serving_{0};
  std::mutex waiting_;
  std::condition_variable turn_;
};

struct AlignedDelete {
  void operator()(std::byte* data) const { ::operator delete(data, std::align_val_t{64}); }
};

}  // namespace

struct ThreadPool::State {
  Turns callers;  // one has the turn for a whole job
  void (*run)(const void*, int64_t, int) = nullptr;
  const void* context = nullptr;
  int64_t tasks = 0;
  alignas(64) std::atomic<uint64_t> word{0};
  alignas(64) std::atomic<int64_t> next_task{0};
  alignas(64) std::atomic<int> parked{0};
  std::mutex parking;
  std::condition_variable wake;
  std::unique_ptr<std::byte, AlignedDelete> scratch;
  std::vector<std::thread> workers;

  bool has_news(uint64_t seen) const {
    const uint64_t now = word.load(std::memory_order_seq_cst);
    return generation(now) != seen || (now & kStopping) != 0;
  }

  void wait_for_news(uint64_t seen) {
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int i = 0; i < kPausesPerClockRead; i++) {
        if (has_news(seen)) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() - start < kSpinTime);
    std::unique_lock<std::mutex> lock(parking);
    parked.fetch_add(1, std::memory_order_seq_cst);  // before the last look at the word, which
                                                     // publish() writes first
    wake.wait(lock, [&] { return has_news(seen); });
    parked.fetch_sub(1, std::memory_order_relaxed);
  }

  void do_tasks(int thread) {
    for (;;) {
      const int64_t task = next_task.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      run(context, task, thread);
    }
  }

  void work(int thread) {
    uint64_t seen = 0;
    for (;;) {
      wait_for_news(seen);
      uint64_t now = word.load(std::memory_order_acquire);
      if ((now & kStopping) != 0) return;
      seen = generation(now);
      while ((now & kOpen) != 0 && generation(now) == seen) {
        if (!word.compare_exchange_weak(now, now + 1, std::memory_order_acquire,
                                        std::memory_order_acquire))
          continue;
        do_tasks(thread);
        word.fetch_sub(1, std::memory_order_release);
        break;
      }
    }
  }

  void publish() {
    next_task.store(0, std::memory_order_relaxed);
    const uint64_t next = generation(word.load(std::memory_order_relaxed)) + 1;
    word.store((next << kGenerationShift) | kOpen, std::memory_order_seq_cst);
    wake_parked(tasks - 1);
  }

  void wake_parked(int64_t wanted) {
    const int waiting = parked.load(std::memory_order_seq_cst);
    if (waiting == 0) return;
    {
      std::lock_guard<std::mutex> lock(parking);
    }  // a worker between its last look and its wait holds the mutex
    if (wanted >= waiting) {
      wake.notify_all();
    } else {
      for (int64_t i = 0; i < wanted; i++) wake.notify_one();
    }
  }

  void finish() {
    word.fetch_and(~kOpen, std::memory_order_relaxed);
    for (int pauses = 0; (word.load(std::memory_order_acquire) & kInsideMask) != 0; pauses++)
      wait_a_little(pauses);
  }

  void stop() {
    word.fetch_or(kStopping, std::memory_order_seq_cst);
    { std::lock_guard<std::mutex> lock(parking); }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  State* state = state_.get();
  // All that may throw comes before the first worker. Pages that no kernel touches are never backed
  // by memory.
  const size_t bytes = static_cast<size_t>(threads) * kScratchBytes + kJobScratchBytes;
  state->scratch.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64})));
  state->workers.reserve(static_cast<size_t>(threads) - 1);
  try {
    for (int thread = 1; thread < threads; thread++)
      state->workers.emplace_back([state, thread] { state->work(thread); });
  } catch (const std::exception&) {
    // The system refuses more threads: go on with those that started.
  }
}

ThreadPool::~ThreadPool() {
  state_->stop();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(int64_t tasks, void (*run)(const void*, int64_t, int),
                              const void* context) {
  if (tasks <= 0) return;
  State& state = *state_;
  const std::lock_guard<Turns> turn(state.callers);
  if (tasks == 1 || state.workers.empty()) {
    for (int64_t task = 0; task < tasks; task++) run(context, task, 0);
    return;
  }
  state.run = run;
  state.context = context;
  state.tasks = tasks;
  state.publish();
  state.do_tasks(0);
  state.finish();
}

std::byte* ThreadPool::scratch(int thread) {
  return state_->scratch.get() + kJobScratchBytes + static_cast<size_t>(thread) * kScratchBytes;
}

void ThreadPool::wait_a_little(int pauses) {
  if (pauses < kPausesBeforeYield) {
    pause();
  } else {
    std::this_thread::yield();  // the other thread may need this very core
  }
}

std::byte* ThreadPool::job_scratch() {
  return state_->scratch.get();
}

}  // namespace moepp
