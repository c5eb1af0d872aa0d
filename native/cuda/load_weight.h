// Weights on their way from the checkpoint's files into a GPU's memory, in the order of
// weight_layout.h. The host converts, quantises or lays them out anew, 8 MiB at a time, while the 8
// MiB before are travelling.
#pragma once

#include <string>

#include "cuda/staging.h"
#include "cuda/status_of.h"
#include "device.h"

namespace moepp::cuda {

// Bytes of a weight on the device; and of an int8 or int4 weight in a packed file.
int64_t weight_bytes(const WeightSpec& spec, Layout layout);
int64_t packed_bytes(const WeightSpec& spec, Layout layout);

// A weight and where it goes. The device is the calling thread's current one.
struct Loading {
  const WeightSpec& spec;
  Layout layout;
  void* data;           // weight_bytes(spec, layout) of the device's memory
  simt::Stream stream;  // of the copies, which have ended when a load returns
  std::string device;   // "cuda:0"
  const Control& control;
  Staging& staging;  // for the same stream

  Status check(simt::Error error) const { return status_of(error, device); }
  Status cancelled() const {
    return control.is_cancelled() ? Status::error(Code::kAborted, "loading was cancelled")
                                  : Status{};
  }
};

// From the weight's parts in the checkpoint.
Status load_weight(const Loading& to);
// From the CPU's panels in a packed file (packed_blocks.h): int8 and int4.
Status load_packed(const Loading& to, const std::byte* packed);

}  // namespace moepp::cuda
