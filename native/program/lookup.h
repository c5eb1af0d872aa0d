// Rows of a table that stays in the checkpoint's files (spec.h, LookupSpec).
#pragma once

#include <vector>

#include "spec.h"
#include "status.h"
#include "weights/stacked_rows.h"

namespace moepp {

class Lookup {
 public:
  // Maps the table. Nothing of it is read.
  static Status open(const LookupSpec& spec, Lookup* lookup);

  const LookupSpec& spec() const { return spec_; }
  int64_t width() const { return table_.length(); }  // elements of a row

  // The rows of these numbers as f32, one behind the other. The system begins to read all of them
  // before the first is waited for.
  Status read(const int32_t* rows, int64_t count, float* out) const;

 private:
  LookupSpec spec_;
  StackedRows table_;
};

}  // namespace moepp
