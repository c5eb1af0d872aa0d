// The blocks that are being run, as the scheduler's own files see it. Plain arrays: while a kernel
// runs, nothing here may allocate or call what ThreadSanitizer intercepts, for it would take that
// for the kernel's doing.
#pragma once

#include "test/emulator/fiber.h"
#include "test/emulator/scheduler.h"

namespace simt::emu {

constexpr unsigned kMaxThreads = 1024, kWarps = kMaxThreads / 32, kGroups = kMaxThreads / 128;
constexpr size_t kMaxSmem = 227 * 1024;

enum class State : uint8_t {
  kReady,
  kYields,
  kAside,
  kWarp,
  kGroup,
  kBarrier,
  kCluster,
  kPhase,
  kDependencies,
  kDone
};

// First in, first out, in groups that are closed by a commit.
template <class Item, unsigned Capacity>
struct Queue {
  struct Entry {
    Item item;
    unsigned group;
  };
  Entry entries[Capacity];
  unsigned head, tail, open_group;

  void clear() { head = tail = open_group = 0; }
  bool empty() const { return head == tail; }
  bool push(const Item& item) {
    if (tail - head == Capacity) return false;
    entries[tail++ % Capacity] = {item, open_group};
    return true;
  }
  // True if the oldest entry belongs to a committed group that is not among the `newest` last ones.
  bool due(unsigned newest) const {
    return !empty() && entries[head % Capacity].group + newest < open_group;
  }
  Item& front() { return entries[head % Capacity].item; }
  void pop() { head++; }
};

struct PendingCopy {
  Copy copy;
  uint64_t* mbarrier;  // not null: no copy, but the arrival once all before it are done
  const char* edge;
};
struct PendingBulk {
  Bulk bulk;
  uint64_t* mbarrier;  // of a load
  const char* edge;
  unsigned to;  // block of the cluster, of a load
};
struct PendingProduct {
  Product product;
  const char* edge;
};

struct Thread {
  uint3 index;
  unsigned rank;
  State state;
  const char* op;  // what it waits in, and where
  Site at;
  int barrier;
  const uint64_t* mbarrier;
  int parity;
  Fiber fiber;
  unsigned arrivals;           // entries of `copies` that are arrivals
  bool awaited;                // the kernels before
  bool fenced, fenced_device;  // at all; for the device
  unsigned words_read;         // by atomics since the last fence for the device
  const void* words[16];
  Queue<PendingCopy, 256> copies;
  Queue<PendingBulk, 16> stores;
};

struct Meeting {
  uint32_t mask, arrived;
  Meet meet;
  Combine combine;
  Site at;
  const char* edge;
  void* args[32];
};
struct Warp {
  uint32_t live;
  unsigned meetings_held;
  Meeting meetings[32];
};
struct Group {
  unsigned arrived, issued, fence_missing;
  const char* op;
  Site at;
  void* args[128];
  Queue<PendingProduct, 64> products;
};
struct Barrier {
  unsigned arrived, generation;
  int threads;
  Site at;
  uint32_t lanes[kWarps];
};

// Addresses that stand for ThreadSanitizer's edges. Allocated anew for each block, so that blocks
// stay unordered. An edge is not used again before its last user is sure to have seen it. One edge
// for all would order a thread after later acts of others, and so hide races.
struct Edges {
  char barrier[16][4], warp[kWarps][64], issued[kGroups][64], finished[kGroups], bulk[4096],
      stored[kMaxThreads], copied[4096], fence[2][kMaxThreads], word[1024], end;
};

constexpr unsigned kMostBulks = 512;  // loads of a block by TMA in flight

// The large parts of a block, which the next one takes over: fibers keep their stacks.
struct Parts {
  PendingBulk bulks[kMostBulks];
  Thread thread[kMaxThreads];
  Warp warp[kWarps];
  Group group[kGroups];
  Barrier barrier[16];
  unsigned order[kMaxThreads];
  unsigned char async_smem[kMaxSmem];
};

// Neighbouring blocks that begin together, and their barrier.
struct Cluster {
  unsigned arrived, generation, live, blocks;  // live: threads; blocks that have not ended
  char edge[4];
};

// The block whose thread runs; others wait as copies of it (scheduler.cc).
struct Block {
  Grid* grid;
  uint3 index;
  unsigned threads, live;
  unsigned char* smem;
  size_t smem_bytes;
  bool programmatic, let_go, async_used;
  Cluster* cluster;  // null without
  Edges* edges;
  unsigned bulk_count, bulk_issued, copies_issued;
  Parts* parts;
  PendingBulk* bulks;
  Thread* thread;
  Warp* warp;
  Group* group;
  Barrier* barrier;
};

extern Block block;
extern Thread* current;  // null while the scheduler runs

// Gives control away until the scheduler makes the thread ready.
void wait_as(State state, const char* op, Site at);
// After an arrival for which others may have waited. In some schedules the thread goes on only when
// no other can: what it does after the arrival may be too late.
void step_aside();
// The running thread has reached its end: a thread that waited for it alone goes on.
void leave_meetings();
bool phase_complete(const uint64_t* b, int parity);
// A thread has ended, which the cluster's barrier need not wait for.
void leave_cluster();
// Fails if block `rank` of the cluster is not resident.
void require_block_of_cluster(unsigned rank, Site at);
// Runs act(argument) with another block of the cluster as `block`.
void in_block_of_cluster(unsigned rank, Site at, void (*act)(void*), void* argument);
// After a failure on the way: the own block is `block` again.
void come_home();
// Runs one asynchronous operation that no thread has waited for; false if there is none. `choice`
// is any number.
bool run_one_pending(uint64_t choice);
// Faults that show when a thread, and when the block, ends.
void end_thread_copies();
void check_block_end();
// Runs what follows as a thread of its own, ordered after `edge` alone, until end_engine.
void* begin_engine(const char* edge);
void end_engine(void* before);

}  // namespace simt::emu
