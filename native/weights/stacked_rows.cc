#include "stacked_rows.h"

#include <algorithm>

namespace moepp {

int64_t elements_of(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

Status StackedRows::open(const WeightSpec& spec, StackedRows* rows) {
  // A vector of several parts: each element is a row, so that the parts lie one behind the other.
  const bool joined = spec.shape.size() == 1 && spec.parts.size() > 1;
  rows->length_ = spec.shape.empty() || joined ? 1 : spec.shape.back();
  rows->first_rows_.push_back(0);
  std::map<std::string, std::shared_ptr<MappedFile>> files;
  for (const TensorRef& ref : spec.parts) {
    // Blocks of a device begin at its rows' first element, and stored ones may not.
    if (spec.dtype == DType::kF8 && ref.rows.heads != 0)
      return Status::error(Code::kUnsupported, ref.name + ": rows of heads are not held as float8");
    SourceTensor source;
    MOEPP_CHECK(SourceTensor::open(ref, &files, &source));
    const Shape& shape = source.shape;
    const bool fits = joined ? shape.size() == 1 : !shape.empty() && shape.back() == rows->length_;
    if (!fits) {
      return Status::error(Code::kBadWeights, ref.name + ": its rows do not have " +
                                                  std::to_string(rows->length_) + " elements");
    }
    const int64_t elements = elements_of(shape);
    if (joined) {
      source.shape.push_back(1);
      source.strides.push_back(1);
    }
    rows->first_rows_.push_back(rows->first_rows_.back() +
                                elements / std::max<int64_t>(1, rows->length_));
    rows->parts_.push_back(std::move(source));
  }
  if (rows->count() * rows->length_ != elements_of(spec.shape)) {
    return Status::error(Code::kBadWeights,
                         spec.name + ": its parts have " + std::to_string(rows->count()) +
                             " rows of " + std::to_string(rows->length_) + ", expected " +
                             std::to_string(elements_of(spec.shape)) + " elements");
  }
  return {};
}

PackRow StackedRows::row(int64_t index) const {
  const size_t part =
      static_cast<size_t>(std::upper_bound(first_rows_.begin(), first_rows_.end(), index) -
                          first_rows_.begin()) -
      1;
  return parts_[part].row(index - first_rows_[part]);
}

void StackedRows::drop(int64_t first, int64_t last) const {
  for (size_t part = 0; part < parts_.size(); part++) {
    const int64_t begin = std::max(first, first_rows_[part]),
                  end = std::min(last, first_rows_[part + 1]);
    if (begin < end)
      parts_[part].drop((begin - first_rows_[part]) * length_, (end - begin) * length_);
  }
}

}  // namespace moepp
