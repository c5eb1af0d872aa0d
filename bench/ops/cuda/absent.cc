// In place of ceiling.cu in a build without CUDA.
#include "../bench.h"

namespace moepp::bench {

std::unique_ptr<Ceiling> cuda_ceiling(Device&) {
  return nullptr;
}

}  // namespace moepp::bench
