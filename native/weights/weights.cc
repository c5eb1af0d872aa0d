#include "weights.h"

#include <algorithm>
#include <cstring>

#include "float8.h"

namespace moepp {

using Files = std::map<std::string, std::shared_ptr<MappedFile>>;

static std::string shape_words(const Shape& shape) {
  std::string words;
  for (const int64_t size : shape) words += (words.empty() ? "" : ", ") + std::to_string(size);
  return "[" + words + "]";
}

// The scales of an e4m3 tensor, checked.
static Status read_scales(const TensorRef& ref, Files* files, std::vector<float>* scales) {
  const auto bad = [&ref](const std::string& text) {
    return Status::error(Code::kBadWeights, ref.name + ": " + text);
  };
  const size_t rank = ref.shape.size();
  if (rank < 2) return bad("is float8 " + shape_words(ref.shape) + ", expected a matrix");
  if (ref.scale.size() != 1) return bad("is float8 without scales");
  const TensorRef& scale = ref.scale[0];
  if (scale.dtype != DType::kF32 && scale.dtype != DType::kBf16)
    return bad(std::string("its scales are ") + dtype_name(scale.dtype) + ", expected f32 or bf16");
  Shape expected = ref.shape;
  expected[rank - 2] = scale_blocks(expected[rank - 2]);
  expected[rank - 1] = scale_blocks(expected[rank - 1]);
  if (scale.shape != expected)
    return bad("its scales are " + shape_words(scale.shape) + ", expected " +
               shape_words(expected));
  SourceTensor source;
  MOEPP_CHECK(SourceTensor::open(scale, files, &source));
  const int64_t columns = expected[rank - 1];
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < rank; i++) {
    if (__builtin_mul_overflow(rows, expected[i], &rows)) return bad("has too many scales");
  }
  // without strides of 0, which would make little of a file much of memory
  const int64_t stored = static_cast<int64_t>(scale.byte_length) / dtype_size(scale.dtype);
  if (columns > 0 && rows > stored / columns) return bad("has fewer scales than its shape says");
  scales->resize(static_cast<size_t>(rows * columns));
  for (int64_t row = 0; row < rows; row++)
    convert_row(source.row(row), 0, columns, DType::kF32,
                reinterpret_cast<std::byte*>(scales->data() + row * columns));
  for (size_t i = 0; i < scales->size(); i++) {
    const float value = (*scales)[i];
    if (!(value >= 0.0f && value <= kMostScale))
      return bad("scale " + std::to_string(i) + " is " + std::to_string(value) +
                 ", expected 0 to 2^119");
  }
  return {};
}

Status SourceTensor::open(const TensorRef& ref, Files* files, SourceTensor* tensor) {
  if (ref.is_packed())
    return Status::error(Code::kBadWeights, ref.name + " is packed, expected plain values");
  if (ref.dtype == DType::kI32 || is_quantised(ref.dtype)) {
    return Status::error(Code::kBadFile, ref.name + " is " + dtype_name(ref.dtype) +
                                             ", expected f32, bf16, f16 or float8");
  }
  const uint64_t size = static_cast<uint64_t>(dtype_size(ref.dtype));
  uint64_t reach = 1;  // one past the last element
  for (size_t i = 0; i < ref.shape.size(); i++) {
    uint64_t step;
    if (ref.shape[i] < 0 || ref.strides[i] < 0)
      return Status::error(Code::kBadFile, ref.name + ": negative shape or stride");
    if (ref.shape[i] == 0) {
      reach = 0;
      break;
    }
    if (__builtin_mul_overflow(static_cast<uint64_t>(ref.shape[i] - 1),
                               static_cast<uint64_t>(ref.strides[i]), &step) ||
        __builtin_add_overflow(reach, step, &reach)) {
      return Status::error(Code::kBadFile,
                           ref.name + ": its shape and strides do not fit in 64 bits");
    }
  }
  if (reach > ref.byte_length / size) {
    return Status::error(Code::kBadFile, ref.name + ": shape and strides reach element " +
                                             std::to_string(reach) + ", but the tensor has " +
                                             std::to_string(ref.byte_length) + " bytes of " +
                                             dtype_name(ref.dtype));
  }
  std::shared_ptr<MappedFile>& file = (*files)[ref.file];
  if (file == nullptr) MOEPP_CHECK(MappedFile::open(ref.file, &file));
  if (ref.byte_offset > file->size() || ref.byte_length > file->size() - ref.byte_offset) {
    return Status::error(Code::kBadFile, ref.name + ": bytes " + std::to_string(ref.byte_offset) +
                                             " to " +
                                             std::to_string(ref.byte_offset + ref.byte_length) +
                                             " lie past the end of " + ref.file + " (" +
                                             std::to_string(file->size()) + " bytes)");
  }
  if (ref.dtype == DType::kF8) {
    MOEPP_CHECK(read_scales(ref, files, &tensor->scales_));
    tensor->scale_columns_ = scale_blocks(ref.shape.back());
  }
  tensor->data = file->data() + ref.byte_offset;
  tensor->dtype = ref.dtype;
  tensor->shape = ref.shape;
  tensor->strides = ref.strides;
  tensor->file_ = file;
  tensor->offset_ = ref.byte_offset;
  tensor->bytes_ = ref.byte_length;
  return ref.rows.heads == 0 ? Status() : tensor->take(ref);
}

Status SourceTensor::take(const TensorRef& ref) {
  const HeadRows& rows = ref.rows;
  const bool has_heads = shape.size() == 2 && rows.heads > 0 && shape[0] % rows.heads == 0;
  const int64_t head_rows = has_heads ? shape[0] / rows.heads : 0;
  if (rows.first < 0 || rows.count < 1 || rows.count > head_rows - rows.first) {
    return Status::error(Code::kBadWeights, ref.name + ": is " + shape_words(shape) +
                                                ", expected a matrix of " +
                                                std::to_string(rows.heads) + " heads with rows " +
                                                std::to_string(rows.first) + " to " +
                                                std::to_string(rows.first + rows.count));
  }
  data += rows.first * strides[0] * dtype_size(dtype);
  shape = {rows.heads, rows.count, shape[1]};
  strides = {head_rows * strides[0], strides[0], strides[1]};
  if (rows.transposed) {
    std::swap(shape[1], shape[2]);
    std::swap(strides[1], strides[2]);
  }
  rows_ = rows;
  head_rows_ = head_rows;
  return {};
}

void SourceTensor::drop(int64_t first, int64_t count) const {
  if (file_ == nullptr) return;
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) {
    if (strides[i] != stride) return;
  }
  const uint64_t size = static_cast<uint64_t>(dtype_size(dtype));
  file_->drop(offset_ + static_cast<uint64_t>(first) * size, static_cast<uint64_t>(count) * size);
}

SourceTensor SourceTensor::of(std::vector<float> values, Shape shape) {
  SourceTensor tensor;
  tensor.values_ = std::move(values);
  tensor.data = reinterpret_cast<const std::byte*>(tensor.values_.data());
  tensor.strides.assign(shape.size(), 1);
  for (size_t i = shape.size() - 1; i > 0; i--)
    tensor.strides[i - 1] = tensor.strides[i] * shape[i];
  tensor.shape = std::move(shape);
  return tensor;
}

void SourceTensor::expect_scattered() const {
  if (file_ != nullptr) file_->scatter(offset_, bytes_);
}

void SourceTensor::fetch_row(int64_t index) const {
  if (file_ == nullptr) return;
  const int64_t size = dtype_size(dtype);
  const int64_t reach = (shape.back() - 1) * strides.back() + 1;
  file_->fetch(static_cast<uint64_t>(row(index).data - file_->data()),
               static_cast<uint64_t>(reach * size));
}

SourceTensor::~SourceTensor() {
  if (file_ != nullptr) file_->drop(offset_, bytes_);
}

PackRow SourceTensor::row(int64_t index) const {
  const size_t rank = shape.size();
  if (rank == 0) return {data, dtype};
  int64_t element = 0, rest = index;
  for (size_t i = rank - 1; i-- > 0;) {
    element += rest % shape[i] * strides[i];
    rest /= shape[i];
  }
  const std::byte* from = data + element * dtype_size(dtype);
  PackRow row = {from, dtype, strides[rank - 1]};
  if (!scales_.empty()) set_scales(index, &row);
  return row;
}

void SourceTensor::set_scales(int64_t index, PackRow* row) const {
  const int64_t rows = shape[shape.size() - 2], matrix = index / rows, i = index % rows;
  if (rows_.heads == 0) {
    const int64_t block = matrix * scale_blocks(rows) + i / kScaleBlock;
    row->scales = scales_.data() + block * scale_columns_;
    return;
  }
  // A head may begin within a block of rows.
  const int64_t head = matrix * head_rows_ + rows_.first;
  const int64_t stored = rows_.transposed ? head : head + i;
  row->scales = scales_.data() + stored / kScaleBlock * scale_columns_;
  if (!rows_.transposed) return;
  row->scales += i / kScaleBlock;
  row->scale_step = scale_columns_;
  row->phase = head % kScaleBlock;
}

Status not_finite(const WeightSpec& spec, int64_t row) {
  const std::string words = spec.name + ": row " + std::to_string(row) + " holds a NaN";
  return Status::error(
      Code::kBadWeights,
      words +
          (is_quantised(spec.dtype)
               ? " or an infinity, which " + std::string(dtype_name(spec.dtype)) + " cannot"
               : " in float8") +
          "; expected finite values");
}

// One tensor, row-major: its innermost rows are converted into a buffer and written.
static Status write_tensor(OutputFile& output, const SourceTensor& source, const WeightSpec& spec,
                           const Control& control) {
  const DType dtype = spec.dtype;
  const size_t rank = source.shape.size();
  const int64_t columns = rank == 0 ? 1 : source.shape[rank - 1];
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < rank; i++) rows *= source.shape[i];
  const int64_t row_bytes = columns * dtype_size(dtype);
  const int64_t batch = std::max<int64_t>(1, (int64_t{4} << 20) / std::max<int64_t>(1, row_bytes));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(batch, rows) * row_bytes));
  for (int64_t row = 0; row < rows && columns > 0;) {
    if (control.is_cancelled())
      return Status::error(Code::kAborted, "the conversion was cancelled");
    int64_t filled = 0;
    for (; filled < batch && row < rows; filled++, row++) {
      if (!convert_row(source.row(row), 0, columns, dtype, buffer.data() + filled * row_bytes))
        return not_finite(spec, row);
    }
    MOEPP_CHECK(output.write(buffer.data(), static_cast<size_t>(filled * row_bytes)));
    control.add(filled * row_bytes);
  }
  return {};
}

Status write_tensors(const std::string& path, const std::vector<uint8_t>& header,
                     const std::vector<TensorRef>& refs, const std::vector<DType>& dtypes,
                     const Control& control) {
  OutputFile output(path);
  MOEPP_CHECK(output.opened());
  MOEPP_CHECK(output.write(header.data(), header.size()));
  std::map<std::string, std::shared_ptr<MappedFile>> files;
  for (size_t i = 0; i < refs.size(); i++) {
    SourceTensor source;
    MOEPP_CHECK(SourceTensor::open(refs[i], &files, &source));
    if (dtypes[i] != source.dtype && dtypes[i] != DType::kF32 && dtypes[i] != DType::kBf16)
      return Status::error(Code::kUnsupported, refs[i].name + ": " + dtype_name(dtypes[i]) +
                                                   " is not written, expected f32 or bf16");
    WeightSpec spec;
    spec.name = refs[i].name;
    spec.dtype = dtypes[i];
    MOEPP_CHECK(write_tensor(output, source, spec, control));
  }
  return output.sync();
}

}  // namespace moepp
