// The services that the emulated instructions ask of the scheduler (scheduler.cc, meetings.cc,
// async.cc).
//
// Those files are compiled without -fsanitize=thread: their bookkeeping is no part of the emulated
// program. So they must never use an inline function that kernels use too. The linker keeps one
// copy of it, perhaps theirs, and the races seen through it would vanish. Code that must be
// instrumented comes to them as a function pointer from the kernel's own compilation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "test/emulator/base.h"

// The last parameter of every emulated instruction: where the kernel calls it.
#define SIMT_AT ::simt::emu::Site at = {__builtin_FILE(), __builtin_LINE()}
// For functions that exchange registers between fibers: registers are not memory, so
// ThreadSanitizer must not look.
#define SIMT_REGISTERS __attribute__((no_sanitize("thread"), noinline))

namespace simt::emu {

struct Site {
  const char* file;
  int line;
};

// The order of ready threads, and of asynchronous copies and products: as soon or as late as is
// legal.
enum class Order { kForward, kReverse, kRandom };
enum class Async { kEager, kLazy };
struct Options {
  Order order = Order::kForward;
  Async async = Async::kLazy;
  uint64_t seed = 1;
};
extern Options options;

// Ends the launch with this error.
[[noreturn]] void fail(Site at, const char* format, ...) __attribute__((format(printf, 2, 3)));
// The cause of the last launch's failure.
const std::string& last_failure();
void set_failure(const std::string& cause);

// wait_for_dependencies: a thread of a programmatic launch that ends without it ends the launch
// with an error.
void await_dependencies();
// launch_dependents, by one thread of the block.
void let_dependents_go();

unsigned thread_rank();  // in the block
unsigned char* smem_base();
size_t smem_bytes();
// The same bytes as TMA and wgmma see them, all ones at first. Their own writes are in both at
// once; those of ordinary code come here by a proxy fence alone.
unsigned char* async_smem();
void proxy_fence();
// ThreadSanitizer's edges; nothing without it.
void acquire(const void* edge);
void release(const void* edge);

// __threadfence_block and __threadfence; and what carries them to other threads, an atomic.
enum class Scope { kBlock, kDevice };
void fence(Scope scope);
void before_atomic(const void* word);
void after_atomic(const void* word);

// Runs combine(args of all lanes, lanes that arrived) once every lane of the mask that has not
// exited has called. `aligned`: the instruction needs the whole warp at one place in the program.
// `orders`: memory too, as __syncwarp does.
using Combine = void (*)(void** args, uint32_t lanes);
struct Meet {
  const char* op;
  bool aligned = false, orders = false;
};
void warp_meet(uint32_t mask, Meet meet, void* arg, Combine combine, Site at);
// The same for the 128 threads of a warpgroup.
void group_meet(const char* op, void* arg, Combine combine, Site at);
// threads 0: __syncthreads.
void barrier(int id, int threads, bool waits, Site at);
// For spin loops on memory that another thread of the block writes.
void yield();

// cp.async. `run` does one copy.
struct Copy {
  void (*run)(const Copy& copy);
  void* dst;
  const void* src;
  int bytes, source_bytes;
};
void copy_start(const Copy& copy, Site at);
void copy_commit();
void copy_wait(unsigned newest);
void copy_arrive(uint64_t* mbarrier, Site at);

void mbarrier_init(uint64_t* b, int arrivals, Site at);
void mbarrier_update(uint64_t* b, int arrivals, int64_t bytes, Site at);
void mbarrier_arrive(uint64_t* b, Site at);  // one
void mbarrier_wait(uint64_t* b, int parity, Site at);
bool mbarrier_try_wait(uint64_t* b, int parity, Site at);

// TMA: one box between shared and global memory. `run` moves it.
struct Bulk {
  void (*run)(const Bulk& bulk);
  unsigned char* smem;
  unsigned char* global;
  uint64_t columns, rows, pitch_bytes;  // of the matrix
  int64_t x, y;
  uint32_t box_columns, box_rows, element_bytes, swizzle_mask;
};
void bulk_load_start(const Bulk& bulk, uint64_t* mbarrier, Site at);
void bulk_store_start(const Bulk& bulk, Site at);
void bulk_store_commit();
void bulk_store_wait(unsigned newest);

// wgmma. `run` computes one product into the 128 threads' accumulators.
struct Product {
  void (*run)(const Product& product);
  float* d[128];
  uint64_t a, b;
  int n;
  bool accumulate;
};
void product_issue(Site at);  // by each thread, before the meeting
void product_start(const Product& product);
void product_fence();
void product_commit();
void product_wait(unsigned newest);
void product_waited();  // by each thread, after the meeting

// True if these bytes of device memory are still as a copy from the host, or a clearing by it, left
// them.
bool is_constant(const void* data, size_t bytes);

// Loads past L1, for tests that count sectors: kept as long as there is room. Loads of one warp
// with one number are one instruction, if none of its lanes skips one.
struct Load {
  uintptr_t address;
  unsigned block, warp, number;  // number: of the thread, from 0
};
struct LoadLog {
  Load* loads = nullptr;
  size_t capacity = 0, count = 0;
};
extern LoadLog load_log;
void note_load(const void* p);

// A kernel's launch. `early`: it may start before the kernel ahead of it has begun. `resident`: how
// many blocks the card holds at once.
struct GridCall {
  dim3 grid, block;
  size_t smem_bytes = 0;
  bool programmatic = false, cooperative = false, early = false;
  unsigned resident = 1;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
};
struct Grid;
// `early`: a few blocks run up to their wait for the kernels before; finish_grid does the rest.
Grid* start_grid(const GridCall& call, bool early);
// True if every thread block has called launch_dependents.
bool let_go(const Grid* grid);
// kSuccess or kLaunchFailed. The grid is gone.
int finish_grid(Grid* grid);
void abandon_grid(Grid* grid);

}  // namespace simt::emu
