// A recorded program, as TypeScript hands it over: named buffers, weights, and a list of ops over
// them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "tensor.h"

namespace moepp {

// A dimension is a size >= 0, or one of these, known only when a step runs.
enum Symbol : int64_t {
  kTokens = -1,          // T
  kRows = -2,            // R
  kSequences = -3,       // B
  kSequencesPlus1 = -4,  // B+1
  kPages = -5,           // M
};

// The sizes of one step.
struct Sizes {
  int64_t tokens = 0, rows = 0, sequences = 0, pages = 0;

  int64_t resolve(int64_t dimension) const {
    switch (dimension) {
      case kTokens:
        return tokens;
      case kRows:
        return rows;
      case kSequences:
        return sequences;
      case kSequencesPlus1:
        return sequences + 1;
      case kPages:
        return pages;
      default:
        return dimension;
    }
  }
};

using Shape = std::vector<int64_t>;  // sizes and Symbols

struct BufferSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// The place of one stored tensor (lib/checkpoint/tensor-ref.ts).
struct TensorRef {
  std::string name;  // for errors
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<int64_t> strides;  // in elements
  std::string file;
  uint64_t byte_offset = 0, byte_length = 0;
  // kPanels, kGateUpPanels: the bytes are a whole int8 or int4 weight as Device::packed_layout()
  // names it, used where they are.
  Layout packed = Layout::kRows;

  bool is_packed() const { return packed != Layout::kRows; }
};

// A weight is its parts, one below the other along the first axis, after which it is given `shape`.
struct WeightSpec {
  std::string name;
  DType dtype = DType::kF32;  // on the device
  Shape shape;
  std::vector<TensorRef> parts;
};

// A number, or a short list of them. Enums and booleans are numbers.
struct Attribute {
  static constexpr size_t kMostNumbers = 64;
  std::vector<double> numbers;

  Attribute() = default;
  Attribute(double number) : numbers{number} {}
  Attribute(std::initializer_list<double> list) : numbers(list) {}
};

struct OpSpec {
  std::string op;
  std::string label;
  std::map<std::string, std::string> tensors;   // field -> name of a buffer or weight
  std::map<std::string, Attribute> attributes;  // field -> value
};

struct ProgramSpec {
  std::vector<BufferSpec> buffers;  // those that no op writes are the step's inputs
  std::vector<WeightSpec> weights;
  std::vector<OpSpec> ops;
  std::vector<std::string> outputs;  // buffers that every run returns
};

}  // namespace moepp
