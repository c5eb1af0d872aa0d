// Stacks of their own for the threads of a block, and switching between them. The sanitizers are
// told of each switch.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(SIMT_UCONTEXT)
#include <ucontext.h>
#define SIMT_USE_UCONTEXT 1
#else
#define SIMT_USE_UCONTEXT 0
#endif

namespace simt::emu {

struct Fiber {
  char* stack = nullptr;  // the lowest usable byte; null for the thread that runs the scheduler
  size_t stack_bytes = 0;
  void* stack_pointer = nullptr;
#if SIMT_USE_UCONTEXT
  ucontext_t context;
#endif
  void* asan_fake_stack = nullptr;
  void* tsan = nullptr;
};

// Readies a fiber to call entry, which must not return; `ended` says that its former run went to
// the end. False: no memory.
bool fiber_start(Fiber& fiber, void (*entry)(), bool ended);
// To be called first by entry, with the fiber it was switched from.
void fiber_entered(Fiber& from);
// `last`: from will not be resumed.
void fiber_switch(Fiber& from, Fiber& to, bool last = false);

// ThreadSanitizer's notion of a thread, without a stack: code that runs in between counts as that
// thread's.
void* tsan_create();
void tsan_destroy(void* thread);
void* tsan_current();
void tsan_become(void* thread);

}  // namespace simt::emu
