// The launchers of this folder, one per op, declared from the list.
#pragma once

#include "ops.h"
#include "queue.h"

namespace moepp::cuda {

#define MOEPP_LAUNCHER(name, Args) void name(const Args& args, Queue& queue);
MOEPP_OPS(MOEPP_LAUNCHER, MOEPP_LAUNCHER)
#undef MOEPP_LAUNCHER

}  // namespace moepp::cuda
