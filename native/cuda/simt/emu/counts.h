// Calls that the emulated GPU has served so far: for tests.
#pragma once

#include <atomic>
#include <cstdint>

namespace simt::emu {

struct Counts {
  std::atomic<int64_t> graphs{0};  // ever made
  std::atomic<int64_t> copies_to_host{0};
  std::atomic<int64_t> programmatic{0};  // launches
  std::atomic<int64_t> prefetches{0};    // of a thread
  std::atomic<int64_t> waits{0};         // of the host for a stream
};
Counts& counts();

}  // namespace simt::emu
