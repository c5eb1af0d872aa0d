#include "test/emulator/scheduler.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "test/emulator/grid.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt::emu {

Options options;
LoadLog load_log;
Block block;
Thread* current;
Fiber scheduler;

namespace {

constexpr unsigned kMaxIdleRounds = 1000;
// Blocks that start early, and that run together in random order: enough to see faults.
constexpr unsigned kFewBlocks = 4;
constexpr unsigned kFewThreads = 512;  // in random order, of a grid

struct Failed {};

std::string failure;  // of the last launch

uint64_t next_random(Grid& grid) {
  grid.random_state ^= grid.random_state << 13;
  grid.random_state ^= grid.random_state >> 7;
  grid.random_state ^= grid.random_state << 17;
  return grid.random_state;
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

void report_deadlock(Grid& grid, const char* what) {
  enter(grid.resident.front());
  grid.failure = what + waiting_threads();
  if (grid.begun < grid.blocks) {
    grid.failure += "; the card holds " + std::to_string(grid.resident.size()) +
                    " blocks at once, and " + std::to_string(grid.blocks - grid.begun) +
                    " others cannot begin";
  }
  grid.failed = true;
}

// Runs every thread of `block` that can go on, once each. Returns whether any did more than look
// again.
bool run_threads(Grid& grid) {
  unsigned* order = block.parts->order;
  if (options.order == Order::kRandom) {
    for (unsigned i = block.threads - 1; i > 0; i--) {
      const unsigned j = static_cast<unsigned>(next_random(grid) % (i + 1)), swapped = order[i];
      order[i] = order[j];
      order[j] = swapped;
    }
  }
  bool progress = false;
  for (unsigned i = 0; i < block.threads && !grid.failed; i++) {
    Thread& t = block.thread[order[i]];
    if (t.state == State::kPhase && phase_complete(t.mbarrier, t.parity)) t.state = State::kReady;
    if (t.state != State::kReady && t.state != State::kYields) continue;
    resume(t);
    progress |= t.state != State::kYields;
  }
  return progress;
}

// A turn of each resident block, the last first in reverse.
bool run_round(Grid& grid) {
  bool progress = false;
  if (options.order == Order::kRandom && grid.resident.size() > 1)
    std::swap(grid.resident.front(), grid.resident[next_random(grid) % grid.resident.size()]);
  for (size_t i = 0; i < grid.resident.size() && !grid.failed; i++) {
    enter(grid.resident[i]);
    progress |= run_threads(grid);
    if (!grid.failed && block.live == 0) {
      check_block_end();
      end_block();
      grid.resident.erase(grid.resident.begin() + static_cast<ptrdiff_t>(i--));
      progress = true;
    } else {
      grid.resident[i] = block;
    }
  }
  return progress;
}

// As late as possible: only now that no thread can go on without it.
bool run_pending(Grid& grid) {
  const uint64_t choice = options.order == Order::kRandom    ? next_random(grid)
                          : options.order == Order::kReverse ? ~uint64_t{0}
                                                             : 0;
  for (Block& resident : grid.resident) {
    enter(resident);
    const bool ran = run_one_pending(choice);
    resident = block;
    if (ran) return true;
  }
  return false;
}

bool bring_back(Grid& grid) {
  bool any = false;
  for (const Block& b : grid.resident) {
    for (unsigned i = 0; i < b.threads; i++) {
      if (b.thread[i].state != State::kAside) continue;
      b.thread[i].state = State::kReady;
      any = true;
    }
  }
  return any;
}

// True if a thread of a resident block is in this state.
bool any_thread(const Grid& grid, State state) {
  for (const Block& b : grid.resident) {
    for (unsigned i = 0; i < b.threads; i++) {
      if (b.thread[i].state == state) return true;
    }
  }
  return false;
}

bool add_block(Grid& grid) {
  if (grid.begun == grid.blocks) return false;
  if (!start_block(grid)) {
    grid.failure = "out of memory";
    grid.failed = true;
    return false;
  }
  grid.resident.push_back(block);
  return true;
}

// Blocks join when those that run cannot go on: these may wait for them.
bool add_waited_for(Grid& grid) {
  return grid.resident.size() < grid.call.resident && add_block(grid);
}

void run_resident(Grid& grid, bool early) {
  unsigned idle_rounds = 0;
  while (!grid.failed) {
    while (grid.resident.size() < grid.window && add_block(grid)) {
    }
    if (grid.resident.empty() || grid.failed) return;
    if (run_round(grid)) {
      idle_rounds = 0;
      continue;
    }
    if (grid.failed) return;
    if (bring_back(grid) || run_pending(grid)) continue;
    if (early && any_thread(grid, State::kDependencies)) return;
    const bool spins = any_thread(grid, State::kYields);
    if (spins && ++idle_rounds < kMaxIdleRounds) {
      // A loop that looks a second time waits for something.
      if (idle_rounds > 1) add_waited_for(grid);
      continue;
    }
    if (!spins) report_deadlock(grid, "deadlock");
    if (spins) report_deadlock(grid, "threads spin for ever");
  }
}

void run_grid(Grid& grid, bool early) {
  scheduler.tsan = tsan_current();
  try {
    run_resident(grid, early);
  } catch (const Failed&) {
  }
}

unsigned first_window(const Grid& grid, bool early) {
  const GridCall& call = grid.call;
  if (call.cooperative) return call.resident;
  const uint64_t threads = grid.blocks * call.block.x * call.block.y * call.block.z;
  const bool together = options.order == Order::kRandom && threads <= kFewThreads;
  return early || together ? std::min(call.resident, kFewBlocks) : 1;
}

}  // namespace

void thread_main() {
  fiber_entered(scheduler);
  block.grid->call.entry(block.grid->call.argument);
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

Grid* start_grid(const GridCall& call, bool early) {
  auto* grid = new Grid{};
  grid->call = call;
  grid->blocks = uint64_t{call.grid.x} * call.grid.y * call.grid.z;
  grid->window = first_window(*grid, early);
  grid->random_state = options.seed * 0x9e3779b97f4a7c15u + 1;
  grid->launcher = tsan_create();
  grid->dependencies_done = !early;
  if (early) run_grid(*grid, true);
  return grid;
}

bool let_go(const Grid* grid) {
  bool all = grid->begun == grid->blocks;
  for (const Block& b : grid->resident) all &= b.let_go;
  return all;
}

int finish_grid(Grid* grid) {
  if (!grid->dependencies_done) {
    grid->dependencies_done = true;
    release(&grid->dependencies);
    for (Block& b : grid->resident) {
      for (unsigned i = 0; i < b.threads; i++) {
        if (b.thread[i].state == State::kDependencies) b.thread[i].state = State::kReady;
      }
    }
    if (!grid->call.cooperative) grid->window = 1;
  }
  run_grid(*grid, false);
  const bool failed = grid->failed;
  if (failed) failure = grid->failure;
  abandon_grid(grid);
  return failed ? kLaunchFailed : kSuccess;
}

void abandon_grid(Grid* grid) {
  scheduler.tsan = tsan_current();
  for (const Block& b : grid->resident) {
    enter(b);
    end_block();
  }
  if (grid->launcher != nullptr) tsan_destroy(grid->launcher);
  delete grid;
}

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
  block.grid->failure = std::string(text) + place;
  block.grid->failed = true;
  if (current == nullptr) throw Failed{};  // in the scheduler itself: up to run_grid
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

void step_aside() {
  if (options.async == Async::kEager && options.order != Order::kForward)
    wait_as(State::kAside, "an arrival", {"", 0});
}

void note_load(const void* p) {
  const unsigned number = current->loads++;
  if (load_log.count == load_log.capacity) return;
  load_log.loads[load_log.count++] = {reinterpret_cast<uintptr_t>(p), blockIdx.x,
                                      current->rank / 32, number};
}

void await_dependencies() {
  current->awaited = true;
  if (!block.grid->dependencies_done)
    wait_as(State::kDependencies, "wait_for_dependencies", {"", 0});
  acquire(&block.grid->dependencies);
}
void let_dependents_go() {
  block.let_go = true;
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
  tsan_become(block.grid->launcher);
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

}  // namespace simt::emu
