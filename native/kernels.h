// A device's table of kernels: one function pointer per line of ops.inc; null means that the device
// lacks the op.
#pragma once

#include "ops.h"
#include "queue.h"

namespace moepp {

struct Kernels {
#define MOEPP_OP(name, Args) void (*name)(const Args& args, Queue& queue) = nullptr;
#include "ops.inc"
#undef MOEPP_OP
};

}  // namespace moepp
