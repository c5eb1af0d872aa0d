#include "stacked_rows.h"

#include <algorithm>

namespace moepp {

int64_t elements_of(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

// True if the parts are [rows, w] of a weight [rows, the sum of all w].
static bool are_side_by_side(const WeightSpec& spec) {
  if (spec.shape.size() != 2 || spec.parts.size() < 2) return false;
  int64_t columns = 0;
  for (const TensorRef& ref : spec.parts) {
    if (ref.shape.size() != 2 || ref.shape[0] != spec.shape[0]) return false;
    columns += ref.shape[1];
  }
  return columns == spec.shape[1];
}

// Puts them together in memory.
Status StackedRows::join_columns(const WeightSpec& spec) {
  const int64_t rows = spec.shape[0], columns = spec.shape[1];
  std::vector<float> values(static_cast<size_t>(rows * columns));
  std::map<std::string, std::shared_ptr<MappedFile>> files;
  int64_t first = 0;
  for (const TensorRef& ref : spec.parts) {
    SourceTensor source;
    MOEPP_CHECK(SourceTensor::open(ref, &files, &source));
    for (int64_t row = 0; row < rows; row++) {
      auto* to = reinterpret_cast<std::byte*>(values.data() + row * columns + first);
      if (!convert_row(source.row(row), 0, ref.shape[1], DType::kF32, to))
        return not_finite(spec, row);
    }
    first += ref.shape[1];
  }
  length_ = columns;
  first_rows_ = {0, rows};
  parts_.push_back(SourceTensor::of(std::move(values), {rows, columns}));
  return {};
}

Status StackedRows::open(const WeightSpec& spec, StackedRows* rows) {
  if (are_side_by_side(spec)) return rows->join_columns(spec);
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

size_t StackedRows::part_of(int64_t row) const {
  return static_cast<size_t>(std::upper_bound(first_rows_.begin(), first_rows_.end(), row) -
                             first_rows_.begin()) -
         1;
}

PackRow StackedRows::row(int64_t index) const {
  const size_t part = part_of(index);
  return parts_[part].row(index - first_rows_[part]);
}

void StackedRows::expect_scattered() const {
  for (const SourceTensor& part : parts_) part.expect_scattered();
}

void StackedRows::fetch(int64_t row) const {
  const size_t part = part_of(row);
  parts_[part].fetch_row(row - first_rows_[part]);
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
