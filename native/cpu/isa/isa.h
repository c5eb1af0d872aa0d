// The kernel tables of the instruction sets that this build holds, and the choice among them.
#pragma once

#include <vector>

#include "../../kernels.h"

namespace moepp::cpu {

namespace scalar {
const Kernels& kernels();
}
namespace avx2 {
const Kernels& kernels();
}
namespace avxvnni {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
namespace avx512vnni {
const Kernels& kernels();
}
namespace avx512bf16 {
const Kernels& kernels();
}
namespace amx {
const Kernels& kernels();
// True if the processor has AMX with bf16 and int8, and the system lets this process use it. Asks
// the system for that once.
bool available();
}  // namespace amx
namespace neon {
const Kernels& kernels();
}
namespace neondot {
const Kernels& kernels();
}

struct Isa {
  const char* name;  // "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx",
                     // "neon", "neondot"
  const Kernels* kernels;
  // Multiplies pairs of bf16. Over a bf16 cache, queries and the keys' weights are rounded to bf16.
  // With bf16 weights x is rounded, too, where an op lets it (ops.h).
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
