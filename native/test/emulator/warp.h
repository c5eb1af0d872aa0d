#pragma once

#include "test/emulator/compiled.h"
#include "test/emulator/traffic/traffic.h"

namespace simt {

constexpr unsigned kFullMask = 0xffffffffu;

inline unsigned lane() {
  return emu::thread_rank() % 32;
}

namespace emu {

// A value that lanes exchange. In CUDA the value from a lane that did not call is undefined: all
// ones here, a NaN.
template <class T>
struct Exchange {
  T value, result;
  int source;
};
template <class T>
SIMT_REGISTERS void exchange(void** args, uint32_t lanes) {
  for (int i = 0; i < 32; i++) {
    if (!(lanes >> i & 1)) continue;
    auto* e = static_cast<Exchange<T>*>(args[i]);
    if (lanes >> e->source & 1) {
      e->result = static_cast<Exchange<T>*>(args[e->source])->value;
    } else {
      auto* bytes = reinterpret_cast<unsigned char*>(&e->result);
      for (size_t b = 0; b < sizeof(T); b++) bytes[b] = 0xff;
    }
  }
}
template <class T>
SIMT_REGISTERS T shuffle(uint32_t mask, T value, int source, const char* op, Site at) {
  Exchange<T> e = {value, value, source};
  warp_meet(mask, {op}, &e, exchange<T>, at);
  return e.result;
}

// One fold over the lanes, given to all of them. Fold(accumulated, lane's value, lane).
template <class T, class R>
struct Vote {
  T value;
  R result;
};
template <class T, class R, class Fold>
SIMT_REGISTERS void fold_votes(void** args, uint32_t lanes) {
  R result = Fold::start();
  for (int i = 0; i < 32; i++) {
    if (lanes >> i & 1) result = Fold::fold(result, static_cast<Vote<T, R>*>(args[i])->value, i);
  }
  for (int i = 0; i < 32; i++) {
    if (lanes >> i & 1) static_cast<Vote<T, R>*>(args[i])->result = result;
  }
}
template <class T, class R, class Fold>
SIMT_REGISTERS R vote(uint32_t mask, T value, const char* op, Site at) {
  Vote<T, R> v = {value, Fold::start()};
  warp_meet(mask, {op}, &v, fold_votes<T, R, Fold>, at);
  return v.result;
}

struct Ballot {
  static unsigned start() { return 0; }
  static unsigned fold(unsigned sum, bool value, int lane) {
    return sum | static_cast<unsigned>(value) << lane;
  }
};
struct Add {
  static int start() { return 0; }
  static int fold(int sum, int value, int) {
    return static_cast<int>(static_cast<unsigned>(sum) + static_cast<unsigned>(value));
  }
};
struct Greatest {
  static int start() { return INT32_MIN; }
  static int fold(int greatest, int value, int) { return value > greatest ? value : greatest; }
};

template <class T>
SIMT_REGISTERS void match_lanes(void** args, uint32_t lanes) {
  for (int i = 0; i < 32; i++) {
    if (!(lanes >> i & 1)) continue;
    auto* a = static_cast<Vote<T, unsigned>*>(args[i]);
    a->result = 0;
    for (int j = 0; j < 32; j++) {
      if ((lanes >> j & 1) && static_cast<Vote<T, unsigned>*>(args[j])->value == a->value)
        a->result |= 1u << j;
    }
  }
}
template <class T>
SIMT_REGISTERS unsigned match(uint32_t mask, T value, const char* op, Site at) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "__match_*_sync compare 4 or 8 bytes");
  Vote<T, unsigned> v = {value, 0};
  warp_meet(mask, {op}, &v, match_lanes<T>, at);
  return v.result;
}

template <class T>
struct Same {
  using Type = T;
};

}  // namespace emu
}  // namespace simt

inline void __syncthreads(SIMT_AT) {
  simt::emu::barrier(0, 0, true, at);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_AT) {
  simt::emu::warp_meet(mask, {"__syncwarp", false, true}, nullptr, nullptr, at);
}

// CUDA C++ Programming Guide, warp shuffle functions: a source outside the segment of `width` lanes
// is the lane itself, but
// __shfl_sync's wraps.
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_AT) {
  const int lane = static_cast<int>(simt::lane());
  return simt::emu::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)),
                            "__shfl_sync", at);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_AT) {
  const int lane = static_cast<int>(simt::lane()), source = lane ^ bits;
  // PTX: shfl.bfly reads lower segments, but not higher ones.
  const bool inside = source <= (lane | (width - 1));
  return simt::emu::shuffle(mask, value, inside ? source : lane, "__shfl_xor_sync", at);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, SIMT_AT) {
  const int lane = static_cast<int>(simt::lane()), source = lane - static_cast<int>(distance);
  return simt::emu::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source,
                            "__shfl_up_sync", at);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, SIMT_AT) {
  const int lane = static_cast<int>(simt::lane()), source = lane + static_cast<int>(distance);
  return simt::emu::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source,
                            "__shfl_down_sync", at);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_AT) {
  return simt::emu::vote<bool, unsigned, simt::emu::Ballot>(mask, predicate != 0, "__ballot_sync",
                                                            at);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_AT) {
  return simt::emu::vote<bool, unsigned, simt::emu::Ballot>(mask, predicate != 0, "__any_sync",
                                                            at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_AT) {
  return simt::emu::vote<bool, unsigned, simt::emu::Ballot>(mask, predicate == 0, "__all_sync",
                                                            at) == 0;
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, SIMT_AT) {
  return simt::emu::match(mask, value, "__match_any_sync", at);
}
template <class T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all, SIMT_AT) {
  const unsigned same = simt::emu::match(mask, value, "__match_all_sync", at);
  *all = same == mask;
  return same == mask ? mask : 0;
}

inline void __threadfence() {
  simt::emu::fence(simt::emu::Scope::kDevice);
}
inline void __threadfence_block() {
  simt::emu::fence(simt::emu::Scope::kBlock);
}

namespace simt::emu {

// next(old) in place of *p; the old value. Relaxed, as on the device.
template <class T, class Next>
SIMT_COUNTED inline T atomic_update(T* p, Next next) {
  note_access(Access::kAtomic, p, sizeof *p, SIMT_PLACE);
  before_atomic(p);
  T old, now;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    now = next(old);
  } while (!__atomic_compare_exchange(p, &old, &now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(p);
  return old;
}

}  // namespace simt::emu

template <class T>
inline T atomicAdd(T* p, typename simt::emu::Same<T>::Type value) {
  return simt::emu::atomic_update(p, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
inline T atomicMax(T* p, typename simt::emu::Same<T>::Type value) {
  return simt::emu::atomic_update(p, [=](T old) { return old < value ? value : old; });
}
template <class T>
inline T atomicMin(T* p, typename simt::emu::Same<T>::Type value) {
  return simt::emu::atomic_update(p, [=](T old) { return value < old ? value : old; });
}
template <class T>
inline T atomicExch(T* p, typename simt::emu::Same<T>::Type value) {
  return simt::emu::atomic_update(p, [=](T) { return value; });
}
template <class T>
inline T atomicCAS(T* p, typename simt::emu::Same<T>::Type expected,
                   typename simt::emu::Same<T>::Type value) {
  return simt::emu::atomic_update(p, [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicOr(unsigned* p, unsigned bits) {
  return simt::emu::atomic_update(p, [=](unsigned old) { return old | bits; });
}

// By the shuffles above.
#include "cuda/simt/before_sm80.h"

namespace simt {

inline int reduce_add(unsigned mask, int x, SIMT_AT) {
  if (SIMT_HAS_SM80) return emu::vote<int, int, emu::Add>(mask, x, "reduce_add", at);
  return before_sm80::reduce_lanes(mask, x, [](int a, int b) { return a + b; });
}
inline int reduce_max(unsigned mask, int x, SIMT_AT) {
  if (SIMT_HAS_SM80) return emu::vote<int, int, emu::Greatest>(mask, x, "reduce_max", at);
  return before_sm80::reduce_lanes(mask, x, [](int a, int b) { return a < b ? b : a; });
}
inline bool elect_one(SIMT_AT) {
  if (SIMT_HAS_SM90) emu::warp_meet(kFullMask, {"elect_one", true}, nullptr, nullptr, at);
  return lane() == 0;
}

inline void barrier_sync(int id, int threads, SIMT_AT) {
  emu::barrier(id, threads, true, at);
}
inline void barrier_arrive(int id, int threads, SIMT_AT) {
  emu::barrier(id, threads, false, at);
}
template <int kThreads>
void sync_threads(SIMT_AT) {
  barrier_sync(1 + kThreads / 128, kThreads, at);
}

inline unsigned load_acquire(const unsigned* p) {
  emu::yield();  // it may be the condition of a loop
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
SIMT_COUNTED inline void store_release(unsigned* p, unsigned value) {
  emu::note_access(emu::Access::kStore, p, sizeof *p, SIMT_PLACE);
  __atomic_store_n(p, value, __ATOMIC_RELEASE);
}
SIMT_COUNTED inline unsigned atomic_add_acq_rel(unsigned* p, unsigned value) {
  emu::note_access(emu::Access::kAtomic, p, sizeof *p, SIMT_PLACE);
  return __atomic_fetch_add(p, value, __ATOMIC_ACQ_REL);
}

// A kernel behind another in a stream may come here before the other has begun (scheduler.cc).
inline void wait_for_dependencies() {
  if (SIMT_HAS_SM90) emu::await_dependencies();
}
inline void launch_dependents() {
  if (SIMT_HAS_SM90) emu::let_dependents_go();
}

}  // namespace simt
