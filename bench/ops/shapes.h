// The sizes of MoE++ 7B, and what the benches of the small ops share.
#pragma once

#include <vector>

#include "../../native/test/reference.h"
#include "../../native/test/reference_gemm.h"
#include "bench.h"

namespace moepp::bench {

constexpr int64_t kHidden = 1536, kHeads = 16, kHeadDim = 96, kExperts = 20, kFfnExperts = 16, kConstants = 2, kTopK = 2;
constexpr int64_t kPageSize = 64, kVocabulary = 65536;
constexpr int64_t kStepTokens[] = {1, 8, 512, 2048};

// On huge pages, as the device's own buffers.
struct Floats {
  Tensor tensor;
  Buffer memory;
  float* data;

  Floats(std::initializer_list<int64_t> shape, uint32_t seed, float scale = 1.0f)
      : tensor(test::tensor(nullptr, DType::kF32, shape)),
        memory(static_cast<size_t>(4 * tensor.elements())),
        data(memory.as<float>()) {
    tensor.data = data;
    test::fill(data, tensor.elements(), seed, scale);
  }
};

struct Ints {
  std::vector<int32_t> data;
  Tensor tensor;

  explicit Ints(std::initializer_list<int64_t> shape) : tensor(test::tensor(nullptr, DType::kI32, shape)) {
    data.resize(static_cast<size_t>(tensor.elements()));
    tensor.data = data.data();
  }
};

}  // namespace moepp::bench
