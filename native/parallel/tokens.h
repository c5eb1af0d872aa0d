// The ops between ranks, over tensors in host memory of f32.
#pragma once

#include "ops/collect_tokens.h"
#include "ops/dispatch_tokens.h"

namespace moepp::parallel {

// A failure here is the group's fault from then on (Group::fault).
void dispatch_tokens(const DispatchTokensArgs& args);
void collect_tokens(const CollectTokensArgs& args);

}  // namespace moepp::parallel
