// Stored tensors, mapped from the checkpoint's files.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "host/platform.h"
#include "status.h"
#include "weight_spec.h"

namespace moepp {

// One stored tensor in memory: element [i, j, ...] is at data + (i * strides[0] + j * strides[1] +
// ...) * dtype_size(dtype). data is aligned to the element's size.
class SourceTensor {
 public:
  // Checks the reference against the file: every element that shape and strides reach lies within
  // it.
  static Status open(const TensorRef& ref,
                     std::map<std::string, std::shared_ptr<MappedFile>>* files,
                     SourceTensor* tensor);
  ~SourceTensor();
  SourceTensor() = default;
  SourceTensor(SourceTensor&&) = default;
  SourceTensor& operator=(SourceTensor&&) = default;

  // Says that these elements, in the order of a row-major tensor, are done with: the file's pages
  // can go. A tensor in another order keeps its pages until it is destroyed.
  void drop(int64_t first, int64_t count) const;

  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<int64_t> strides;

 private:
  std::shared_ptr<MappedFile> file_;
  uint64_t offset_ = 0, bytes_ = 0;
  std::unique_ptr<std::byte[]> aligned_copy_;
};

// Writes a file: `header`, then each tensor row-major in its dtype, one after another; synced to
// disk. Fails when the file exists.
Status write_tensors(const std::string& path, const std::vector<uint8_t>& header,
                     const std::vector<TensorRef>& refs, const std::vector<DType>& dtypes,
                     const Control& control);

// Converts `count` elements, source stride in elements, to f32 or bf16 (or copies f16 to f16).
void convert_elements(DType from, const std::byte* source, int64_t stride, DType to,
                      std::byte* target, int64_t count);

}  // namespace moepp
