#include "test/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "test/emulator/scheduler.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
// A fake stack per fiber would be mapped anew each time: twelve times slower, for a fault that
// kernels hardly can have.
extern "C" const char* __asan_default_options() {
  return "detect_stack_use_after_return=0";
}
#endif
#if defined(SIMT_TSAN)  // set by the build: this file itself is not instrumented, so no macro of
                        // the compiler's tells
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_acquire(void* edge);
void __tsan_release(void* edge);
}
#endif

#if !SIMT_USE_UCONTEXT
// Saves the registers that the System V ABI lets a function rely on, and the stack pointer. Then it
// restores them from the other stack. swapcontext would do it too, but asks the kernel for the
// signal mask each time: five to seven times slower.
extern "C" void simt_switch(void** save, void* to);
asm(R"(
.text
.globl simt_switch
.hidden simt_switch
.type simt_switch,@function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8,%rsp
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  addq $8,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch,.-simt_switch
)");
#endif

namespace simt::emu {

namespace {

constexpr size_t kGuardBytes = 4096;
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 * 1024;  // red zones
constexpr size_t kEntryFrames = 8192;
#else
constexpr size_t kStackBytes = 256 * 1024;
#endif

bool map_stack(Fiber& fiber) {
#if defined(SIMT_TSAN)
  // A new mapping each time, which ThreadSanitizer takes for new memory. Else the frames of the
  // fiber that had the stack before would race with those of this one.
  if (fiber.stack != nullptr) {
    return mmap(fiber.stack, kStackBytes, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == fiber.stack;
  }
#endif
  if (fiber.stack != nullptr) return true;
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  mprotect(memory, kGuardBytes, PROT_NONE);
  fiber.stack = static_cast<char*>(memory) + kGuardBytes;
  fiber.stack_bytes = kStackBytes;
  return true;
}

}  // namespace

bool fiber_start(Fiber& fiber, void (*entry)(), bool ended) {
  if (!map_stack(fiber)) return false;
#if defined(__SANITIZE_ADDRESS__)
  // A fiber that ran to its end left poison in the frames of its entry alone. A fiber that was
  // given up may have left it anywhere.
  const size_t dirty = ended ? kEntryFrames : kStackBytes;
  __asan_unpoison_memory_region(fiber.stack + kStackBytes - dirty, dirty);
  fiber.asan_fake_stack = nullptr;
#endif
  if (fiber.tsan != nullptr) tsan_destroy(fiber.tsan);
  fiber.tsan = tsan_create();
#if SIMT_USE_UCONTEXT
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  // simt_switch pops these: control words, six registers, the address of entry. The stack above is
  // aligned as after a call.
  auto** top = reinterpret_cast<void**>(
      (reinterpret_cast<uintptr_t>(fiber.stack + fiber.stack_bytes) & ~uintptr_t{15}) - 16);
  top[1] = nullptr;
  top[0] = reinterpret_cast<void*>(entry);
  void** frame = top - 7;
  for (int i = 0; i < 7; i++) frame[i] = nullptr;
  auto* control = reinterpret_cast<char*>(frame);
  asm volatile("stmxcsr (%0)\nfnstcw 4(%0)" ::"r"(control) : "memory");
  fiber.stack_pointer = frame;
#endif
  return true;
}

void fiber_entered(Fiber& from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &from.stack_bytes);
  from.stack = static_cast<char*>(const_cast<void*>(bottom));
#endif
}

void fiber_switch(Fiber& from, Fiber& to, bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.asan_fake_stack, to.stack, to.stack_bytes);
#endif
  tsan_become(to.tsan);
#if SIMT_USE_UCONTEXT
  swapcontext(&from.context, &to.context);
#else
  simt_switch(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.asan_fake_stack, nullptr, nullptr);
#endif
}

#if defined(SIMT_TSAN)
void* tsan_create() {
  return __tsan_create_fiber(0);
}
void tsan_destroy(void* thread) {
  __tsan_destroy_fiber(thread);
}
void* tsan_current() {
  return __tsan_get_current_fiber();
}
void tsan_become(void* thread) {
  __tsan_switch_to_fiber(thread, 1);  // 1: the switch itself orders nothing
}
void acquire(const void* edge) {
  __tsan_acquire(const_cast<void*>(edge));
}
void release(const void* edge) {
  __tsan_release(const_cast<void*>(edge));
}
#else
void* tsan_create() {
  return nullptr;
}
void tsan_destroy(void*) {}
void* tsan_current() {
  return nullptr;
}
void tsan_become(void*) {}
void acquire(const void*) {}
void release(const void*) {}
#endif

}  // namespace simt::emu
