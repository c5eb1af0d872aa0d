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
namespace avx512 {
const Kernels& kernels();
}
namespace neon {
const Kernels& kernels();
}

struct Isa {
  const char* name;  // "scalar", "avx2", "avx512", "neon"
  const Kernels* kernels;
};

// The sets that this processor can run, best first; "scalar" is always last.
const std::vector<Isa>& available_isas();

}  // namespace moepp::cpu
