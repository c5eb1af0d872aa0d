#pragma once

#include "test/emulator/compiled.h"

namespace simt {

using Mbarrier = uint64_t;

inline void mbar_init(Mbarrier* b, int arrivals, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::mbarrier_init(b, arrivals, at);
}
inline void fence_mbarrier_init(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::proxy_fence();
}
inline void mbar_arrive(Mbarrier* b, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::mbarrier_arrive(b, at);
}
inline void mbar_arrive_expect_tx(Mbarrier* b, uint32_t bytes, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::mbarrier_update(b, 0, bytes, at);
  emu::mbarrier_arrive(b, at);
}
inline void cp_async_mbar_arrive(Mbarrier* b, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::copy_arrive(b, at);
}
// It may wait for a while on the device. Here it says no at once, which is as legal.
inline bool mbar_try_wait(Mbarrier* b, int parity, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  return emu::mbarrier_try_wait(b, parity, at);
}
inline void mbar_wait(Mbarrier* b, int parity, SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::mbarrier_wait(b, parity, at);
}
inline void fence_proxy_async(SIMT_AT) {
  emu::require(SIMT_HAS_SM90, at);
  emu::proxy_fence();
}

template <int Count>
inline void setmaxnreg_inc(SIMT_AT) {
  static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256, "register count");
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet("setmaxnreg_inc", nullptr, nullptr, at);
}
template <int Count>
inline void setmaxnreg_dec(SIMT_AT) {
  static_assert(Count % 8 == 0 && Count >= 24 && Count <= 256, "register count");
  emu::require(SIMT_HAS_SM90A, at);
  emu::group_meet("setmaxnreg_dec", nullptr, nullptr, at);
}

}  // namespace simt
