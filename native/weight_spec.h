// A weight as TypeScript hands it over: its name, and where the checkpoint's files hold its parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor.h"

namespace moepp {

using Shape = std::vector<int64_t>;  // sizes and, in a program, Symbols (program/spec.h)

// `count` rows of each of `heads` heads, from `first` on.
struct HeadRows {
  int64_t heads = 0;
  int64_t first = 0, count = 0;
  bool transposed = false;  // each head's matrix
};

// The place of one stored tensor (lib/tensor/tensor-ref.ts).
struct TensorRef {
  std::string name;  // for errors
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<int64_t> strides;  // in elements
  std::string file;
  uint64_t byte_offset = 0, byte_length = 0;
  // kMatrix, kGateUp: the bytes are a whole int8 or int4 weight, packed (weights/packed_weights.h)
  Layout packed = Layout::kRows;
  // Of kF8 one: f32 or bf16 [..., ceil(N/128), ceil(K/128)] of a shape [..., N, K].
  std::vector<TensorRef> scale = {};
  // Of a matrix [N, K]: what is taken of it, [heads, count, K], or transposed [heads, K, count].
  // Without heads: all of it.
  HeadRows rows = {};

  bool is_packed() const { return packed != Layout::kRows; }
};

// A weight is its parts, one below the other along the first axis, after which it is given `shape`.
// Parts [O, W] of a matrix [O, the sum of all W] stand side by side.
struct WeightSpec {
  std::string name;
  DType dtype = DType::kF32;  // on the device
  Shape shape;
  std::vector<TensorRef> parts;
};

}  // namespace moepp
