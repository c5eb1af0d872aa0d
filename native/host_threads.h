// The host's threads for what a device of another kind prepares there: how many this process may
// use, and a pool of them.
#pragma once

#include "cpu/thread_pool.h"

namespace moepp {

using cpu::available_threads;
using HostThreads = cpu::ThreadPool;

}  // namespace moepp
