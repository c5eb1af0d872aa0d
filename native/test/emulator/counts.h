// Calls that the emulated GPU has served so far: for tests.
#pragma once

#include <atomic>
#include <cstdint>

namespace simt::emu {

struct Counts {
  std::atomic<int64_t> graphs{0};  // ever made
  std::atomic<int64_t> copies_to_host{0};
  std::atomic<int64_t> programmatic{0};  // launches
  std::atomic<int64_t> cooperative{0};   // launches
  std::atomic<int64_t> prefetches{0};    // of a thread
  std::atomic<int64_t> waits{0};         // of the host for a stream
  std::atomic<int64_t> tma_bytes{0};     // of boxes that came by TMA
  // Pieces of page-locked memory: ever asked for, and held now.
  std::atomic<int64_t> page_locked{0}, page_locked_now{0};
};
Counts& counts();

}  // namespace simt::emu
