// A launch that has begun, for the scheduler's own files: blocks.cc starts and ends its blocks,
// scheduler.cc runs them.
#pragma once

#include <string>
#include <vector>

#include "test/emulator/state.h"

namespace simt::emu {

// Some of its blocks are resident: they run together, by turns.
struct Grid {
  GridCall call;
  uint64_t blocks, begun;  // all; those that were or are resident
  unsigned window;         // how many are resident at once, as long as there are more
  bool dependencies_done, failed;
  std::string failure;
  uint64_t random_state;
  // ThreadSanitizer's thread that knows everything before the launch and nothing since. It is the
  // parent of all threads of all blocks, and the allocator of their memory. So blocks are not
  // ordered among each other.
  void* launcher;
  char dependencies;  // the edge from the kernels before
  std::vector<Block> resident;
};

extern Fiber scheduler;  // of the host

void thread_main();

// Makes a resident block the one whose threads run.
void enter(const Block& resident);
// The grid's next block becomes `block`. False: no memory.
bool start_block(Grid& grid);
// Gives back what `block` holds.
void end_block();
// The waiting threads of `block`, one entry per place.
std::string waiting_threads();

}  // namespace simt::emu
