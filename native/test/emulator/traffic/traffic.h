// The bytes that kernels move: asked for by threads, delivered by L2 and by memory. Programs that
// are built with SIMT_TRAFFIC count them (README.md, "Counting traffic"). In others nothing is left
// of this header.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(SIMT_TRAFFIC)
#define SIMT_TRAFFIC 0
#endif

// For a wrapper that notes its accesses itself: the compiler is to note none of them. Its caller's
// place in the program is its own.
#if SIMT_TRAFFIC
#define SIMT_COUNTED __attribute__((no_sanitize("thread"), noinline))
#else
#define SIMT_COUNTED
#endif
#define SIMT_PLACE reinterpret_cast<uintptr_t>(__builtin_return_address(0))

namespace simt::emu {

struct Bulk;

enum class Access : uint8_t { kLoad, kLoadPastL1, kStore, kAtomic, kPrefetch };

struct Moved {
  uint64_t read = 0, written = 0;  // bytes; an atomic's are written
};

// Since count_traffic(). Beside `asked`, bytes are those of whole sectors of 32 bytes.
struct Traffic {
  uint64_t launches = 0;
  Moved asked;     // by threads, TMA boxes and bulk copies
  Moved requests;  // the sectors of each warp's instruction: what L2 delivers if L1 keeps nothing
  Moved l2;        // likewise, if L1 keeps all that a block loaded through it
  Moved kernels;   // memory, if L2 keeps all sectors of a kernel, and nothing from one to the next
  Moved step;      // memory, if L2 keeps all since count_traffic()
  Moved memory;    // memory, if L2 keeps as much as it has room for, the oldest going first
};
// Of b after a.
Traffic difference(const Traffic& a, const Traffic& b);

// Counts from 0 on, with empty caches. Kernels run one after another from here on, and all that is
// asynchronous at once.
constexpr size_t kHopperL2 = size_t{50} << 20;
void count_traffic(size_t l2_bytes = kHopperL2);
const Traffic& traffic();
void stop_counting();

#if SIMT_TRAFFIC
// The running thread's access of any memory; that of the device counts. Lanes of a warp that call
// from one place for the same time are one instruction.
void note_access(Access access, const void* data, size_t bytes, uintptr_t place);
void note_bulk(const Bulk& bulk, bool store);
// All lanes of the running block's warp are at one point of the program: the next accesses belong
// together.
void note_meeting(unsigned warp);
void note_block_end();
void note_launch();
#else
inline void note_access(Access, const void*, size_t, uintptr_t) {}
inline void note_bulk(const Bulk&, bool) {}
inline void note_meeting(unsigned) {}
inline void note_block_end() {}
inline void note_launch() {}
#endif

}  // namespace simt::emu
