// A device's table of kernels: one function pointer per op; null means that the device lacks the
// op.
#pragma once

#include "ops.h"
#include "queue.h"

namespace moepp {

struct Kernels {
#define MOEPP_KERNEL(name, Args) void (*name)(const Args& args, Queue& queue) = nullptr;
  MOEPP_OPS(MOEPP_KERNEL, MOEPP_KERNEL)
#undef MOEPP_KERNEL
};

}  // namespace moepp
