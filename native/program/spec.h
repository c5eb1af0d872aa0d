// A recorded program, as TypeScript hands it over: named buffers, weights, and a list of ops over
// them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "weight_spec.h"

namespace moepp {

// A dimension of a Shape is a size >= 0, or one of these, known only when a step runs.
enum Symbol : int64_t {
  kTokens = -1,          // T
  kRows = -2,            // R
  kSequences = -3,       // B
  kSequencesPlus1 = -4,  // B+1
  kPages = -5,           // M
  kReceived = -6,        // P
};

// The sizes of one step.
struct Sizes {
  int64_t tokens = 0, rows = 0, sequences = 0, pages = 0, received = 0;

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
      case kReceived:
        return received;
      default:
        return dimension;
    }
  }
};

struct BufferSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// A number, or a short list of them. Enums and booleans are numbers.
struct Attribute {
  static constexpr size_t kMostNumbers = 1024;  // one for each expert
  std::vector<double> numbers;

  Attribute() = default;
  Attribute(double number) : numbers{number} {}
  Attribute(std::initializer_list<double> list) : numbers(list) {}
  explicit Attribute(std::vector<double> list) : numbers(std::move(list)) {}
};

struct OpSpec {
  std::string op;
  std::string label;
  std::map<std::string, std::string> tensors;   // field -> name of a buffer or weight
  std::map<std::string, Attribute> attributes;  // field -> value
};

// Rows of a table that stays in the checkpoint's files, whatever the device. They are read in host
// memory before each step: out[t] = table[rows[t, 0]], table[rows[t, 1]], ..., side by side.
struct LookupSpec {
  std::string label;
  WeightSpec table;  // [V, W]; its parts have any stored type, its own does not matter
  std::string rows;  // an input [T, N] i32, each in [0, V)
  std::string out;   // a buffer [T, N * W] f32 that no op writes
};

// The arithmetic of products with bf16 weights. kBf16: their inputs may be rounded to bf16
// (ops/linear.h, may_round_x), by instruction sets that multiply pairs of bf16.
enum class Compute { kExact, kBf16 };

struct ProgramSpec {
  std::vector<BufferSpec> buffers;  // those that nothing writes are the step's inputs
  std::vector<WeightSpec> weights;
  std::vector<OpSpec> ops;
  std::vector<LookupSpec> lookups;
  std::vector<std::string> outputs;  // buffers that every run returns
  Compute compute = Compute::kExact;
};

}  // namespace moepp
