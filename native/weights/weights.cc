#include "weights.h"

#include <algorithm>
#include <cstring>

namespace moepp {

Status SourceTensor::open(const TensorRef& ref,
                          std::map<std::string, std::shared_ptr<MappedFile>>* files,
                          SourceTensor* tensor) {
  if (ref.is_packed())
    return Status::error(Code::kBadWeights,
                         ref.name + " is packed: it must be the only part of its weight");
  if (ref.dtype != DType::kF32 && ref.dtype != DType::kBf16 && ref.dtype != DType::kF16) {
    return Status::error(Code::kBadFile,
                         ref.name + " is " + dtype_name(ref.dtype) + ", expected f32, bf16 or f16");
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
  tensor->data = file->data() + ref.byte_offset;
  tensor->dtype = ref.dtype;
  tensor->shape = ref.shape;
  tensor->strides = ref.strides;
  tensor->file_ = file;
  tensor->offset_ = ref.byte_offset;
  tensor->bytes_ = ref.byte_length;
  // torch's legacy format aligns nothing
  if (reinterpret_cast<uintptr_t>(tensor->data) % size != 0) {
    tensor->aligned_copy_ = std::make_unique<std::byte[]>(ref.byte_length);
    std::memcpy(tensor->aligned_copy_.get(), tensor->data, ref.byte_length);
    tensor->data = tensor->aligned_copy_.get();
  }
  return {};
}

void SourceTensor::drop(int64_t first, int64_t count) const {
  if (aligned_copy_ != nullptr) return;
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) {
    if (strides[i] != stride) return;
  }
  const uint64_t size = static_cast<uint64_t>(dtype_size(dtype));
  file_->drop(offset_ + static_cast<uint64_t>(first) * size, static_cast<uint64_t>(count) * size);
}

SourceTensor::~SourceTensor() {
  if (file_ != nullptr) file_->drop(offset_, bytes_);
}

void convert_elements(DType from, const std::byte* source, int64_t stride, DType to,
                      std::byte* target, int64_t count) {
  const int64_t size = dtype_size(from);
  if (from == to && stride == 1) {
    std::memcpy(target, source, static_cast<size_t>(count * size));
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    const std::byte* element = source + i * stride * size;
    if (from == to) {
      std::memcpy(target + i * size, element, static_cast<size_t>(size));
      continue;
    }
    uint16_t half = 0;
    float value = 0;
    if (from == DType::kF32) {
      std::memcpy(&value, element, 4);
    } else {
      std::memcpy(&half, element, 2);
      value = from == DType::kBf16 ? bf16_to_f32(half) : f16_to_f32(half);
    }
    if (to == DType::kF32) {
      std::memcpy(target + i * 4, &value, 4);
    } else {
      half = f32_to_bf16(value);
      std::memcpy(target + i * 2, &half, 2);
    }
  }
}

// One tensor, row-major: its innermost rows are converted into a buffer and written.
static Status write_tensor(OutputFile& output, const SourceTensor& source, DType dtype,
                           const Control& control) {
  const int64_t rank = static_cast<int64_t>(source.shape.size());
  const int64_t columns = rank == 0 ? 1 : source.shape[rank - 1],
                stride = rank == 0 ? 1 : source.strides[rank - 1];
  int64_t rows = 1;
  for (int64_t i = 0; i + 1 < rank; i++) rows *= source.shape[i];
  const int64_t row_bytes = columns * dtype_size(dtype);
  const int64_t batch = std::max<int64_t>(1, (int64_t{4} << 20) / std::max<int64_t>(1, row_bytes));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min(batch, rows) * row_bytes));
  for (int64_t row = 0; row < rows && columns > 0;) {
    if (control.is_cancelled())
      return Status::error(Code::kAborted, "the conversion was cancelled");
    int64_t filled = 0;
    for (; filled < batch && row < rows; filled++, row++) {
      int64_t element = 0, rest = row;
      for (int64_t i = rank - 2; i >= 0; i--) {
        element += rest % source.shape[i] * source.strides[i];
        rest /= source.shape[i];
      }
      convert_elements(source.dtype, source.data + element * dtype_size(source.dtype), stride,
                       dtype, buffer.data() + filled * row_bytes, columns);
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
    MOEPP_CHECK(write_tensor(output, source, dtypes[i], control));
  }
  return output.sync();
}

}  // namespace moepp
