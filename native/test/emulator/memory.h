#pragma once

#include "test/emulator/counts.h"
#include "test/emulator/scheduler.h"

namespace simt {

template <class T>
inline T* smem(SIMT_AT) {
  if (sizeof(T) > emu::smem_bytes()) {
    emu::fail(at, "smem: %zu bytes are wanted, the launch gave %zu", sizeof(T), emu::smem_bytes());
  }
  return reinterpret_cast<T*>(emu::smem_base());
}
// From the start of dynamic shared memory, which is aligned to 1024 here as on the device.
inline uint32_t smem_address(const void* p, SIMT_AT) {
  const auto* byte = static_cast<const unsigned char*>(p);
  if (byte < emu::smem_base() || byte >= emu::smem_base() + emu::smem_bytes()) {
    emu::fail(at, "the address is not in dynamic shared memory");
  }
  return static_cast<uint32_t>(byte - emu::smem_base());
}

inline uint64_t l2_evict_first() {
  return 1;
}
inline uint64_t l2_evict_last() {
  return 2;
}
namespace emu {

// ld.global.nc. The read itself is the caller's, so that the sanitizers see it.
inline void check_constant(const void* p, size_t bytes, const char* op, Site at) {
  if (!is_constant(p, bytes))
    fail(at, "%s: not what the host put there; a kernel may have written it", op);
}

}  // namespace emu

inline uint4 load_stream(const uint4* p, SIMT_AT) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0)
    emu::fail(at, "load_stream: the address is not aligned to 16");
  const uint4 value = *p;
  emu::check_constant(p, sizeof value, "load_stream", at);
  return value;
}
inline uint4 load_stream(const uint4* p, uint64_t, SIMT_AT) {
  return load_stream(p, at);
}
inline uint4 load_l2(const uint4* p, SIMT_AT) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0)
    emu::fail(at, "load_l2: the address is not aligned to 16");
  emu::note_load(p);
  return *p;
}
inline void prefetch_l2(const void*) {
  emu::counts().prefetches++;
}
inline void prefetch_l2_bulk(const void* p, uint32_t bytes, SIMT_AT) {
  if ((reinterpret_cast<uintptr_t>(p) | bytes) % 16 != 0)
    emu::fail(at, "prefetch_l2_bulk: not a multiple of 16");
}

}  // namespace simt

template <class T>
inline T __ldg(const T* p, SIMT_AT) {
  const T value = *p;
  simt::emu::check_constant(p, sizeof value, "__ldg", at);
  return value;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline void __stcs(T* p, T value) {
  *p = value;
}
