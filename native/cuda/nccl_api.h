// The functions of NCCL that moepp calls, as nccl.h of 2.14 and later declares them. The library is
// looked for when a program runs, so that a build needs none.
#pragma once

#include <cstddef>

#include "cuda/simt/simt.h"
#include "status.h"

namespace moepp::cuda {

using NcclComm = struct ncclComm*;
struct NcclUniqueId {
  char internal[128];
};
// ncclResult_t: others are failures.
constexpr int kNcclSuccess = 0, kNcclInProgress = 7;
constexpr int kNcclInt8 = 0;  // ncclDataType_t

// ncclConfig_t of 2.14. Later ones read no more of a config than its version has.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef, version = 21400;
  int blocking = 0;  // calls return at once, and get_async_error tells how they went
};

struct NcclApi {
  int (*get_version)(int* version) = nullptr;
  int (*get_unique_id)(NcclUniqueId* id) = nullptr;
  int (*init_rank)(NcclComm* comm, int ranks, NcclUniqueId id, int rank,
                   NcclConfig* config) = nullptr;
  int (*get_async_error)(NcclComm comm, int* error) = nullptr;
  int (*abort)(NcclComm comm) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*send)(const void* data, size_t count, int type, int peer, NcclComm comm,
              simt::Stream stream) = nullptr;
  int (*receive)(void* data, size_t count, int type, int peer, NcclComm comm,
                 simt::Stream stream) = nullptr;
  const char* (*error_text)(int error) = nullptr;
};

// Looks where the system looks for libraries. kUnsupported without one.
Status load_nccl(const NcclApi** api);

}  // namespace moepp::cuda
