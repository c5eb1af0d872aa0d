// The launchers of this folder, one per op of the list, and null where there is none.
#pragma once

#include "../../kernels.h"

namespace moepp::cuda {

// CMakeLists.txt makes this file of the list in ops.h.
#include "op_launchers.h"

}  // namespace moepp::cuda
