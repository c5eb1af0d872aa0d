// The facts of a device, and the meaning of a failed call for a user: the same in both
// compilations.
#pragma once

namespace simt {

struct DeviceProperties {
  char name[256];
  int major, minor;  // compute capability
  int multiprocessors;
  size_t block_shared_bytes;  // the most that a block may have when it asks
  int64_t l2_bytes;
};

enum class Fault {
  kNone,
  kNoDriver,
  kOldDriver,
  kMismatchedDriver,  // its library and its kernel module are of different versions
  kNoCompatibility,   // libraries for forward compatibility, on a GPU without it
  kNotReady,          // a service of the system does not run yet
  kNoDevice,
  kNoCode,
  kOutOfMemory,
  kOther
};

}  // namespace simt
