// How fast this machine multiplies and adds from registers, measured: the ceilings of prefill.
#pragma once

#include <string>
#include <vector>

#include "../status.h"

namespace moepp::cpu {

struct ComputePeak {
  const char* name;              // of the instruction: "f32_fma", "int8_vnni", "bf16_amx" (of f32 activations), "int8_amx"
  double operations_per_second;  // a multiply-add counts as two
};

// Each kind of multiply-add that kernels of the set `isa` ("avx512", "avx2", ...) may use and this processor has, by `threads`
// threads at once (0: all available); the best of several passes.
Status measure_compute_peaks(int threads, const std::string& isa, std::vector<ComputePeak>* peaks);

}  // namespace moepp::cpu
