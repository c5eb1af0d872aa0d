// Measures how fast this machine multiplies and adds from registers: the ceilings of prefill.
#pragma once

#include <string>
#include <vector>

#include "../status.h"
#include "host/thread_pool.h"

namespace moepp::cpu {

// A loop of one kind of multiply-add.
struct PeakLoop {
  const char* name;   // of the instruction: "f32_fma"; "bf16_dot", "bf16_mmla" (of two bf16);
                      // "int8_madd" (of 16 bits, in pairs), "int8_dot", "int8_vnni", "int8_mmla";
                      // "bf16_amx" (of f32 activations), "int8_amx"
  const char* isas;   // whose kernels use the instruction, each between two spaces
  double operations;  // of one run; a multiply-add counts as two
  uint64_t (*run)();  // about 0.1 ms
};

// Those that kernels of the set `isa` ("avx512", "avx2", ...) may use.
std::vector<PeakLoop> peak_loops(const std::string& isa);

// Operations per second of all threads at once, each doing so many runs.
double peak_rate(const PeakLoop& loop, int64_t runs, ThreadPool& pool);

struct ComputePeak {
  const char* name;
  double operations_per_second;
};

// The peak of each loop, by `threads` threads (0: all available); the best of several passes.
Status measure_compute_peaks(int threads, const std::string& isa, std::vector<ComputePeak>* peaks);

}  // namespace moepp::cpu
