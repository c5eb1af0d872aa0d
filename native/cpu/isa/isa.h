// The kernel tables of the instruction sets that this build holds, and the choice among them.
#pragma once

#include <vector>

#include "../../kernels.h"
#include "../gemm.h"

namespace moepp::cpu {

#define MOEPP_ISA_SET(set)  \
  namespace set {           \
  const Kernels& kernels(); \
  const Gemms& gemms();     \
  }
MOEPP_ISA_SET(scalar)
MOEPP_ISA_SET(avx2)
MOEPP_ISA_SET(avxvnni)
MOEPP_ISA_SET(avx512)
MOEPP_ISA_SET(avx512vnni)
MOEPP_ISA_SET(avx512bf16)
MOEPP_ISA_SET(amx)
MOEPP_ISA_SET(neon)
MOEPP_ISA_SET(neondot)
MOEPP_ISA_SET(neoni8mm)
MOEPP_ISA_SET(neonbf16)
#undef MOEPP_ISA_SET

namespace amx {
// True if the processor has AMX with bf16 and int8, and the system lets this process use it. Asks
// the system for that once.
bool available();
}  // namespace amx

struct Isa {
  const char* name;  // "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx",
                     // "neon", "neondot", "neoni8mm", "neonbf16"
  const Kernels* kernels;
  const Gemms* gemms;
  // Multiplies pairs of bf16. Over a bf16 cache, queries and the keys' weights are rounded to bf16.
  // With bf16 weights x is rounded, too, where an op lets it (ops/linear.h).
  bool multiplies_pairs = false;
};

// The sets that this processor can run, as a rule best first; "scalar" is always last.
const std::vector<Isa>& available_isas();

// The set whose products, and attention over a bf16 cache, are fastest here with weights of a
// dtype. The first call measures for some milliseconds. There are three measurements: int8 and
// int4; f32 and bf16; bf16 weights whose ops may round x. int8, int4 and the last are taken to have
// a bf16 cache.
const Isa& fastest_isa(DType weights = DType::kBf16, bool may_round_x = false);

}  // namespace moepp::cpu
