// A weight as it is stored: the rows of its parts, one below the other, wherever they lie and in
// whatever type. Parts of a matrix that are narrower, and have all of its rows, stand side by side.
#pragma once

#include <vector>

#include "weights.h"

namespace moepp {

class StackedRows {
 public:
  // Maps the parts and checks that together they have the weight's rows.
  static Status open(const WeightSpec& spec, StackedRows* rows);

  int64_t count() const { return first_rows_.back(); }
  int64_t length() const { return length_; }  // elements of a row
  PackRow row(int64_t index) const;

  // Says that rows [first, last) are packed: the file's pages can go.
  void drop(int64_t first, int64_t last) const;

  // Says that rows here and there will be read over and over, and that one will be read soon.
  void expect_scattered() const;
  void fetch(int64_t row) const;

 private:
  Status join_columns(const WeightSpec& spec);
  size_t part_of(int64_t row) const;

  std::vector<SourceTensor> parts_;
  std::vector<int64_t> first_rows_;  // of each part; one more at the end
  int64_t length_ = 0;
};

int64_t elements_of(const Shape& shape);

}  // namespace moepp
