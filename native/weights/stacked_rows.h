// A weight as it is stored: the rows of its parts, one below the other, wherever they lie and in
// whatever type.
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

 private:
  std::vector<SourceTensor> parts_;
  std::vector<int64_t> first_rows_;  // of each part; one more at the end
  int64_t length_ = 0;
};

int64_t elements_of(const Shape& shape);

}  // namespace moepp
