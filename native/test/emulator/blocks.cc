#include <cstdlib>
#include <cstring>

#include "test/emulator/grid.h"

namespace simt::emu {

namespace {

// Never destroyed: LeakSanitizer looks after the destructors.
std::vector<Parts*>& idle_parts() {
  static auto* const parts = new std::vector<Parts*>;
  return *parts;
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
    t.awaited = t.fenced = t.fenced_device = false;
    t.words_read = 0;
    t.copies.clear();
    t.stores.clear();
    if (!fiber_start(t.fiber, thread_main, t.state == State::kDone)) return false;
    t.state = State::kReady;
    block.parts->order[i] = options.order == Order::kReverse ? block.threads - 1 - i : i;
  }
  return true;
}

bool take_parts() {
  if (idle_parts().empty()) {
    block.parts = static_cast<Parts*>(std::calloc(1, sizeof(Parts)));
  } else {
    block.parts = idle_parts().back();
    idle_parts().pop_back();
  }
  if (block.parts == nullptr) return false;
  block.bulks = block.parts->bulks;
  block.thread = block.parts->thread;
  block.warp = block.parts->warp;
  block.group = block.parts->group;
  block.barrier = block.parts->barrier;
  return true;
}

}  // namespace

void enter(const Block& resident) {
  block = resident;
  blockIdx = block.index;
  blockDim = block.grid->call.block;
  gridDim = block.grid->call.grid;
}

bool start_block(Grid& grid) {
  const uint64_t row = grid.call.grid.x, layer = row * grid.call.grid.y,
                 number =
                     options.order == Order::kReverse ? grid.blocks - 1 - grid.begun : grid.begun;
  Block fresh = {};
  fresh.grid = &grid;
  fresh.index = {static_cast<unsigned>(number % row), static_cast<unsigned>(number % layer / row),
                 static_cast<unsigned>(number / layer)};
  fresh.threads = fresh.live = grid.call.block.x * grid.call.block.y * grid.call.block.z;
  fresh.smem_bytes = grid.call.smem_bytes;
  fresh.programmatic = grid.call.programmatic;
  grid.begun++;
  enter(fresh);
  if (!take_parts()) return false;
  for (unsigned i = 0; i < kWarps; i++) {
    block.warp[i].live = i < block.threads / 32 ? ~0u : 0;
    block.warp[i].meetings_held = 0;
    for (Meeting& m : block.warp[i].meetings) m.arrived = 0;
  }
  for (unsigned i = 0; i < kGroups; i++) {
    block.group[i].arrived = block.group[i].issued = 0;
    block.group[i].fence_missing = 1;
    block.group[i].products.clear();
  }
  for (unsigned i = 0; i < 16; i++) block.barrier[i] = Barrier{};
  tsan_become(grid.launcher);
  const bool started = allocate_block() && start_threads();
  tsan_become(scheduler.tsan);
  return started;
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
  idle_parts().push_back(block.parts);
}

std::string waiting_threads() {
  std::string text = " in block (" + std::to_string(blockIdx.x) + "," + std::to_string(blockIdx.y) +
                     "," + std::to_string(blockIdx.z) + "):";
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
    text += " from thread " + std::to_string(i) + " on in " + t.op + " (" + t.at.file + ":" +
            std::to_string(t.at.line) + ");";
  }
  return text + " " + std::to_string(done) + " of " + std::to_string(block.threads) +
         " threads have ended";
}

}  // namespace simt::emu
