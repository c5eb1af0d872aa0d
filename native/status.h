// The report of a failure in native code. Nothing here aborts, exits, prints or lets an exception
// out.
#pragma once

#include <string>
#include <utility>

namespace moepp {

// The names are the codes of lib/errors.ts without their ERR_ prefix.
enum class Code {
  kOk,
  kNotFound,
  kBadFile,
  kCannotWrite,
  kBadWeights,
  kBadProgram,
  kUnsupported,
  kOutOfMemory,
  kBusy,
  kClosed,
  kAborted,
  kDevice,
  kNoGpu,
  kDriverTooOld,
  kGpuTooOld,
  kParallel
};

inline const char* code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "OK";
    case Code::kNotFound:
      return "ERR_NOT_FOUND";
    case Code::kBadFile:
      return "ERR_BAD_FILE";
    case Code::kCannotWrite:
      return "ERR_CANNOT_WRITE";
    case Code::kBadWeights:
      return "ERR_BAD_WEIGHTS";
    case Code::kBadProgram:
      return "ERR_BAD_PROGRAM";
    case Code::kUnsupported:
      return "ERR_UNSUPPORTED";
    case Code::kOutOfMemory:
      return "ERR_OUT_OF_MEMORY";
    case Code::kBusy:
      return "ERR_BUSY";
    case Code::kClosed:
      return "ERR_CLOSED";
    case Code::kAborted:
      return "ERR_ABORTED";
    case Code::kDevice:
      return "ERR_DEVICE";
    case Code::kNoGpu:
      return "ERR_NO_GPU";
    case Code::kDriverTooOld:
      return "ERR_DRIVER_TOO_OLD";
    case Code::kGpuTooOld:
      return "ERR_GPU_TOO_OLD";
    case Code::kParallel:
      return "ERR_PARALLEL";
  }
  return "ERR_DEVICE";
}

struct Status {
  Code code = Code::kOk;
  std::string message;
  std::string op;  // label of the op that failed, or empty

  bool ok() const { return code == Code::kOk; }
  static Status error(Code code, std::string message, std::string op = {}) {
    return {code, std::move(message), std::move(op)};
  }
};

}  // namespace moepp

// Returns from the calling function with the status of `expression` unless it is ok.
#define MOEPP_CHECK(expression)             \
  do {                                      \
    ::moepp::Status status_ = (expression); \
    if (!status_.ok()) return status_;      \
  } while (0)
