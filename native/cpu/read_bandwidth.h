// How fast this machine reads memory, measured: the ceiling of decoding.
#pragma once

#include "../status.h"

namespace moepp::cpu {

// Bytes per second that `threads` threads (0: all available) read from 256 MiB that no cache holds: the mean over several passes,
// since a decode step, too, takes memory as it is at the time.
Status measure_read_bandwidth(int threads, double* bytes_per_second);

}  // namespace moepp::cpu
