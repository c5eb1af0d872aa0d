// Ranks as threads of one process: for tests.
#pragma once

#include "communicator.h"

namespace moepp::parallel {

std::vector<std::unique_ptr<Communicator>> local_communicators(int size);

}  // namespace moepp::parallel
