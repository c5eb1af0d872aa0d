// The functions that -fsanitize=thread calls for each access of memory, without ThreadSanitizer:
// kernels that are compiled so count what they access.
//
// g++ calls the functions for atomics in place of the instructions, in the host's code too, so that
// these must do what they are for. Kernels' own atomics are counted by their wrappers.
#include "test/emulator/traffic/traffic.h"

using simt::emu::Access;
using simt::emu::note_access;

extern "C" {

#define SIMT_ACCESSES(name, bytes)                                                              \
  void __tsan_read##name(const void* p) { note_access(Access::kLoad, p, bytes, SIMT_PLACE); }   \
  void __tsan_write##name(const void* p) { note_access(Access::kStore, p, bytes, SIMT_PLACE); } \
  void __tsan_unaligned_read##name(const void* p) {                                             \
    note_access(Access::kLoad, p, bytes, SIMT_PLACE);                                           \
  }                                                                                             \
  void __tsan_unaligned_write##name(const void* p) {                                            \
    note_access(Access::kStore, p, bytes, SIMT_PLACE);                                          \
  }
SIMT_ACCESSES(1, 1)
SIMT_ACCESSES(2, 2)
SIMT_ACCESSES(4, 4)
SIMT_ACCESSES(8, 8)
SIMT_ACCESSES(16, 16)

void __tsan_read_range(const void* p, unsigned long bytes) {
  note_access(Access::kLoad, p, bytes, SIMT_PLACE);
}
void __tsan_write_range(const void* p, unsigned long bytes) {
  note_access(Access::kStore, p, bytes, SIMT_PLACE);
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}

// As strong as there is, whatever is asked for.
#define SIMT_ATOMICS(bits)                                                                       \
  uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* p, int) {                      \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                 \
  }                                                                                              \
  void __tsan_atomic##bits##_store(uint##bits##_t* p, uint##bits##_t value, int) {               \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                \
  }                                                                                              \
  uint##bits##_t __tsan_atomic##bits##_exchange(uint##bits##_t* p, uint##bits##_t value, int) {  \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                      \
  }                                                                                              \
  uint##bits##_t __tsan_atomic##bits##_fetch_add(uint##bits##_t* p, uint##bits##_t value, int) { \
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                              \
  uint##bits##_t __tsan_atomic##bits##_fetch_sub(uint##bits##_t* p, uint##bits##_t value, int) { \
    return __atomic_fetch_sub(p, value, __ATOMIC_SEQ_CST);                                       \
  }                                                                                              \
  int __tsan_atomic##bits##_compare_exchange_strong(uint##bits##_t* p, uint##bits##_t* expected, \
                                                    uint##bits##_t value, int, int) {            \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,              \
                                       __ATOMIC_SEQ_CST);                                        \
  }
SIMT_ATOMICS(8)
SIMT_ATOMICS(32)
SIMT_ATOMICS(64)

}  // extern "C"
