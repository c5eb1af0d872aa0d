// The launchers of this folder, one per op, declared from the list.
#pragma once

#include "ops.h"
#include "queue.h"

namespace moepp::cuda {

#define MOEPP_OP(name, Args) void name(const Args& args, Queue& queue);
#include "ops.inc"
#undef MOEPP_OP

}  // namespace moepp::cuda
