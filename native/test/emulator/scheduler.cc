#include "test/emulator/scheduler.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "test/emulator/state.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt::emu {

Options options;
LoadLog load_log;
Block block;
Thread* current;

namespace {

constexpr unsigned kMaxIdleRounds = 1000;

struct Failed {};

Fiber scheduler;
// ThreadSanitizer's thread that knows everything before the launch and nothing since. It is the
// parent of all threads of all blocks, and the allocator of their memory. So blocks are not ordered
// among each other.
void* launcher;
void (*entry)(void*);
void* entry_arg;
std::string failure;
bool failed;
uint64_t random_state;
unsigned order[kMaxThreads];

uint64_t next_random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

void to_scheduler(bool last) {
  fiber_switch(current->fiber, scheduler, last);
}

void resume(Thread& thread) {
  current = &thread;
  threadIdx = thread.index;
  thread.state = State::kReady;
  fiber_switch(scheduler, thread.fiber);
  current = nullptr;
}

void thread_main() {
  fiber_entered(scheduler);
  entry(entry_arg);
  if (block.programmatic && !current->awaited) {
    fail({"", 0}, "a thread of a programmatic launch ends without wait_for_dependencies");
  }
  end_thread_copies();
  release(&block.edges->end);
  current->state = State::kDone;
  leave_meetings();
  to_scheduler(true);
  std::abort();
}

// Exactly the bytes asked for, so that AddressSanitizer sees an overrun; all ones, which is a NaN
// in every type.
bool allocate_block() {
  void* memory = nullptr;
  if (posix_memalign(&memory, 1024, block.smem_bytes == 0 ? 1 : block.smem_bytes) != 0)
    return false;
  block.smem = static_cast<unsigned char*>(memory);
  std::memset(memory, 0xff, block.smem_bytes);
  block.edges = static_cast<Edges*>(std::malloc(sizeof(Edges)));
  return block.edges != nullptr;
}

bool start_threads() {
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& t = block.thread[i];
    t.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    t.rank = i;
    t.arrivals = t.loads = 0;
    t.awaited = false;
    t.copies.clear();
    t.stores.clear();
    if (!fiber_start(t.fiber, thread_main, t.state == State::kDone)) return false;
    t.state = State::kReady;
    order[i] = options.order == Order::kReverse ? block.threads - 1 - i : i;
  }
  return true;
}

bool start_block() {
  block.live = block.threads;
  block.bulk_count = block.bulk_issued = block.copies_issued = 0;
  for (unsigned i = 0; i < kWarps; i++) {
    block.warp[i].live = i < block.threads / 32 ? ~0u : 0;
    block.warp[i].meetings_held = 0;
    for (Meeting& m : block.warp[i].meetings) m.arrived = 0;
  }
  for (Group& g : block.group) {
    g.arrived = g.issued = 0;
    g.fence_missing = 1;
    g.products.clear();
  }
  for (Barrier& b : block.barrier) b = Barrier{};
  tsan_become(launcher);
  const bool started = allocate_block() && start_threads();
  tsan_become(scheduler.tsan);
  return started;
}

// The waiting threads, one entry per place.
void report_deadlock(const char* what) {
  failure = std::string(what) + " in block (" + std::to_string(blockIdx.x) + "," +
            std::to_string(blockIdx.y) + "," + std::to_string(blockIdx.z) + "):";
  unsigned shown = 0, done = 0;
  for (unsigned i = 0; i < block.threads; i++) {
    const Thread& t = block.thread[i];
    if (t.state == State::kDone) {
      done++;
      continue;
    }
    const bool repeated =
        i > 0 && block.thread[i - 1].state == t.state && block.thread[i - 1].at.line == t.at.line;
    if (repeated || shown++ >= 8) continue;
    failure += " from thread " + std::to_string(i) + " on in " + t.op + " (" + t.at.file + ":" +
               std::to_string(t.at.line) + ");";
  }
  failure +=
      " " + std::to_string(done) + " of " + std::to_string(block.threads) + " threads have ended";
  failed = true;
}

// Runs every thread that can go on, once each. Returns whether any did more than look again.
bool run_round() {
  if (options.order == Order::kRandom) {
    for (unsigned i = block.threads - 1; i > 0; i--) {
      const unsigned j = static_cast<unsigned>(next_random() % (i + 1)), swapped = order[i];
      order[i] = order[j];
      order[j] = swapped;
    }
  }
  bool progress = false;
  for (unsigned i = 0; i < block.threads && !failed; i++) {
    Thread& t = block.thread[order[i]];
    if (t.state == State::kPhase && phase_complete(t.mbarrier, t.parity)) t.state = State::kReady;
    if (t.state != State::kReady && t.state != State::kYields) continue;
    resume(t);
    progress |= t.state != State::kYields;
  }
  return progress;
}

void run_to_end() {
  unsigned idle_rounds = 0;
  while (block.live != 0 && !failed) {
    if (run_round()) {
      idle_rounds = 0;
      continue;
    }
    if (failed) break;
    // As late as possible: only now that no thread can go on without it.
    const uint64_t choice = options.order == Order::kRandom    ? next_random()
                            : options.order == Order::kReverse ? ~uint64_t{0}
                                                               : 0;
    if (run_one_pending(choice)) continue;
    bool spins = false;
    for (unsigned i = 0; i < block.threads; i++) spins |= block.thread[i].state == State::kYields;
    if (!spins) {
      report_deadlock("deadlock");
    } else if (++idle_rounds == kMaxIdleRounds) {
      report_deadlock("threads spin for ever");
    }
  }
  if (!failed) check_block_end();
}

void run_block() {
  try {
    run_to_end();
  } catch (const Failed&) {
  }
}

// Orders what all threads did before the scheduler, those too that a failure left where they were.
void end_block() {
  for (unsigned i = 0; i < block.threads; i++) {
    if (block.thread[i].state == State::kDone) continue;
    tsan_become(block.thread[i].fiber.tsan);
    release(&block.edges->end);
  }
  tsan_become(scheduler.tsan);
  acquire(&block.edges->end);
  std::free(block.smem);
  std::free(block.edges);
}

}  // namespace

void fail(Site at, const char* format, ...) {
  // From here on the scheduler works in memory of its own: the fiber's stack holds the kernel's
  // data.
  tsan_become(scheduler.tsan);
  static char text[400], place[160];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::snprintf(place, sizeof place, " (%s:%d) block (%u,%u,%u) thread (%u,%u,%u)", at.file,
                at.line, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  failure = std::string(text) + place;
  failed = true;
  if (current == nullptr) throw Failed{};  // in the scheduler itself: up to run_block
  to_scheduler(false);
  std::abort();
}

const std::string& last_failure() {
  return failure;
}
void set_failure(const std::string& cause) {
  failure = cause;
}

void wait_as(State state, const char* op, Site at) {
  current->state = state;
  current->op = op;
  current->at = at;
  to_scheduler(false);
}
void yield() {
  wait_as(State::kYields, "a spin loop", {"", 0});
}

void note_load(const void* p) {
  const unsigned number = current->loads++;
  if (load_log.count == load_log.capacity) return;
  load_log.loads[load_log.count++] = {reinterpret_cast<uintptr_t>(p), blockIdx.x,
                                      current->rank / 32, number};
}

void await_dependencies() {
  current->awaited = true;
}
unsigned thread_rank() {
  return current->rank;
}
unsigned char* smem_base() {
  return block.smem;
}
size_t smem_bytes() {
  return block.smem_bytes;
}

void* begin_engine(const char* edge) {
  void* before = tsan_current();
  tsan_become(launcher);
  void* engine = tsan_create();
  tsan_become(engine);
  acquire(edge);
  return before;
}
void end_engine(void* before) {
  void* engine = tsan_current();
  release(&block.edges->end);
  tsan_become(before);
  if (engine != nullptr) tsan_destroy(engine);
}

int run(dim3 grid, dim3 block_size, size_t smem_bytes, bool programmatic, void (*kernel)(void*),
        void* arg) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  block.threads = block_size.x * block_size.y * block_size.z;
  block.smem_bytes = smem_bytes;
  block.programmatic = programmatic;
  failed = false;
  entry = kernel;
  entry_arg = arg;
  gridDim = grid;
  blockDim = block_size;
  random_state = options.seed * 0x9e3779b97f4a7c15u + 1;
  scheduler.tsan = tsan_current();
  launcher = tsan_create();
  const uint64_t row = grid.x, layer = row * grid.y, blocks = layer * grid.z;
  for (uint64_t i = 0; i < blocks && !failed; i++) {
    const uint64_t b = options.order == Order::kReverse ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % row), static_cast<unsigned>(b % layer / row),
                static_cast<unsigned>(b / layer)};
    if (!start_block()) {
      failure = "out of memory";
      failed = true;
      break;
    }
    run_block();
    end_block();
  }
  if (launcher != nullptr) tsan_destroy(launcher);
  return failed ? kLaunchFailed : kSuccess;
}

}  // namespace simt::emu
