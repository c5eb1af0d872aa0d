#include "packed_weights.h"

namespace moepp {

bool is_packed(const WeightSpec& spec) {
  return spec.parts.size() == 1 && spec.parts[0].is_packed();
}

static const char* layout_name(Layout layout) {
  return layout == Layout::kRows     ? "rows"
         : layout == Layout::kMatrix ? "matrix order"
                                     : "gate-up order";
}

Status map_packed(const Device& device, const WeightSpec& spec, Layout layout,
                  std::map<std::string, std::shared_ptr<MappedFile>>* files, Memory* memory) {
  const TensorRef& ref = spec.parts[0];
  const auto bad = [&spec](const std::string& text) {
    return Status::error(Code::kBadWeights, spec.name + ": " + text);
  };
  if (!is_quantised(spec.dtype) || ref.dtype != spec.dtype)
    return bad(std::string("packed as ") + dtype_name(ref.dtype) + " for a weight of " +
               dtype_name(spec.dtype) + ", expected int8 or int4 for both");
  if (ref.packed != layout)
    return bad(std::string("packed in ") + layout_name(ref.packed) + ", expected " +
               layout_name(layout));
  if (ref.shape != spec.shape) return bad("the packed weight has another shape");
  const auto bytes = static_cast<uint64_t>(device.packed_bytes(spec, layout));
  if (ref.byte_length != bytes)
    return bad("packed into " + std::to_string(ref.byte_length) + " bytes, expected " +
               std::to_string(bytes));
  if (ref.byte_offset % kPackedAlignment != 0)
    return bad("packed at byte " + std::to_string(ref.byte_offset) + ", expected a multiple of " +
               std::to_string(kPackedAlignment));
  std::shared_ptr<MappedFile>& file = (*files)[ref.file];
  if (file == nullptr) MOEPP_CHECK(MappedFile::open(ref.file, &file));
  if (ref.byte_offset > file->size() || bytes > file->size() - ref.byte_offset) {
    return Status::error(Code::kBadFile, spec.name + ": bytes " + std::to_string(ref.byte_offset) +
                                             " to " + std::to_string(ref.byte_offset + bytes) +
                                             " lie past the end of " + ref.file + " (" +
                                             std::to_string(file->size()) + " bytes)");
  }
  file->keep(ref.byte_offset, bytes);
  *memory = Memory::shared(file, file->data() + ref.byte_offset, static_cast<int64_t>(bytes));
  return {};
}

Status write_packed(const std::shared_ptr<Device>& device, const std::string& path,
                    const std::vector<uint8_t>& header, const std::vector<PackedEntry>& entries,
                    const Control& control) {
  if (!device->uses_mapped_weights())
    return Status::error(Code::kUnsupported, path + ": " + device->info().name +
                                                 " writes no packed weights, expected the CPU");
  OutputFile output(path);
  MOEPP_CHECK(output.opened());
  MOEPP_CHECK(output.write(header.data(), header.size()));
  uint64_t written = header.size();
  for (const PackedEntry& entry : entries) {
    const WeightSpec& spec = entry.spec;
    if (is_quantised(spec.dtype) == (entry.layout == Layout::kRows)) {
      return Status::error(Code::kUnsupported,
                           spec.name + ": " + dtype_name(spec.dtype) + " is not written in " +
                               layout_name(entry.layout) +
                               ", expected int8 or int4 as a matrix, f32 or bf16 in rows");
    }
    if (entry.byte_offset < written ||
        (is_quantised(spec.dtype) && entry.byte_offset % kPackedAlignment != 0)) {
      return Status::error(Code::kBadProgram,
                           spec.name + ": byte offset " + std::to_string(entry.byte_offset) +
                               ", expected at least " + std::to_string(written) +
                               " and a multiple of " + std::to_string(kPackedAlignment));
    }
    const std::vector<std::byte> gap(entry.byte_offset - written);
    MOEPP_CHECK(output.write(gap.data(), gap.size()));
    const int64_t bytes = device->weight_bytes(spec, entry.layout);
    Memory memory;
    MOEPP_CHECK(Memory::allocate(device, bytes, spec.name, &memory));
    MOEPP_CHECK(device->load_weight(spec, entry.layout, memory.data(), control));
    MOEPP_CHECK(output.write(memory.data(), static_cast<size_t>(bytes)));
    written = entry.byte_offset + static_cast<uint64_t>(bytes);
  }
  return output.sync();
}

}  // namespace moepp
