// A program over a table that stays in a file.
#pragma once

#include "program/program.h"
#include "small_model.h"

namespace moepp::test {

// y = x W, where each row of x is three rows of a table of 5 and 7 rows, side by side.
struct LookupModel {
  static constexpr int64_t kWidth = 10, kRowsPerToken = 3, kTableRows = 12;

  ProgramSpec spec;

  explicit LookupModel(const std::string& path) {
    const int64_t columns = kRowsPerToken * kWidth;
    spec.buffers = {{"rows", DType::kI32, {kTokens, kRowsPerToken}},
                    {"x", DType::kF32, {kTokens, columns}},
                    {"y", DType::kF32, {kTokens, 1}}};
    // Rows that overlap are as good as any.
    spec.lookups = {{"table",
                     {"table",
                      DType::kF32,
                      {kTableRows, kWidth},
                      {part(path, {5, kWidth}, 400), part(path, {7, kWidth}, 12)}},
                     "rows",
                     "x"}};
    spec.weights = {{"w", DType::kF32, {1, columns}, {part(path, {1, columns}, 0)}}};
    spec.ops = {
        {"linear", "linear", {{"x", "x"}, {"weight", "w"}, {"out", "y"}}, {{"activation", 0}}}};
    spec.outputs = {"y"};
  }

  static TensorRef part(const std::string& path, Shape shape, uint64_t byte_offset,
                        DType dtype = DType::kF32) {
    TensorRef ref;
    ref.name = "part";
    ref.dtype = dtype;
    ref.strides = {shape[1], 1};
    ref.byte_length = static_cast<uint64_t>(shape[0] * shape[1] * dtype_size(dtype));
    ref.shape = std::move(shape);
    ref.file = path;
    ref.byte_offset = byte_offset;
    return ref;
  }

  static Status run(Program& program, std::vector<int32_t> rows, std::vector<float>* y) {
    Step step;
    step.sizes = {static_cast<int64_t>(rows.size()) / kRowsPerToken, 0, 1, 0};
    step.inputs["rows"] = {rows.data(), static_cast<int64_t>(4 * rows.size())};
    y->resize(rows.size() / kRowsPerToken);
    step.results["y"] = {y->data(), static_cast<int64_t>(4 * y->size())};
    return program.run(step);
  }
};

}  // namespace moepp::test
