// Stored tensors, mapped from the checkpoint's files.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "host/platform.h"
#include "pack_row.h"
#include "status.h"
#include "weight_spec.h"

namespace moepp {

// One stored tensor in memory, or the rows of heads that are taken of it: element [i, j, ...] is at
// data + (i * strides[0] + j * strides[1] + ...) * dtype_size(dtype). data may be aligned to
// nothing: torch's legacy format aligns nothing.
class SourceTensor {
 public:
  // Checks the reference against the file: every element that shape and strides reach lies within
  // it.
  static Status open(const TensorRef& ref,
                     std::map<std::string, std::shared_ptr<MappedFile>>* files,
                     SourceTensor* tensor);
  // Values that are in no file, row-major f32.
  static SourceTensor of(std::vector<float> values, Shape shape);
  ~SourceTensor();
  SourceTensor() = default;
  SourceTensor(SourceTensor&&) = default;
  SourceTensor& operator=(SourceTensor&&) = default;

  // Of the rows of a row-major tensor, that of this index.
  PackRow row(int64_t index) const;

  // Says that these elements, in the order of a row-major tensor, are done with: the file's pages
  // can go. A tensor in another order keeps its pages until it is destroyed.
  void drop(int64_t first, int64_t count) const;

  // Says that rows here and there will be read, over and over.
  void expect_scattered() const;
  // Says that a row of at least one element will be read soon: the system begins to read it.
  void fetch_row(int64_t index) const;

  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<int64_t> strides;

 private:
  Status take(const TensorRef& ref);
  // Scales of the row of this index.
  void set_scales(int64_t index, PackRow* row) const;

  std::shared_ptr<MappedFile> file_;
  uint64_t offset_ = 0, bytes_ = 0;
  std::vector<float> scales_;  // of kF8, row-major
  std::vector<float> values_;  // without a file
  int64_t scale_columns_ = 0;
  HeadRows rows_;          // of a stored matrix, if it has heads
  int64_t head_rows_ = 0;  // stored rows of a head
};

// Writes a file: `header`, then each tensor row-major in its dtype, one after another; synced to
// disk. Fails when the file exists.
Status write_tensors(const std::string& path, const std::vector<uint8_t>& header,
                     const std::vector<TensorRef>& refs, const std::vector<DType>& dtypes,
                     const Control& control);

// The fault of a weight whose row holds a NaN or an infinity where its type has none.
Status not_finite(const WeightSpec& spec, int64_t row);

}  // namespace moepp
