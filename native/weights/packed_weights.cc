#include "packed_weights.h"

#include <algorithm>
#include <cstring>

namespace moepp {

using Files = std::map<std::string, std::shared_ptr<MappedFile>>;

bool is_packed(const WeightSpec& spec) {
  return std::any_of(spec.parts.begin(), spec.parts.end(),
                     [](const TensorRef& part) { return part.is_packed(); });
}

static const char* layout_name(Layout layout) {
  return layout == Layout::kRows     ? "rows"
         : layout == Layout::kMatrix ? "matrix order"
                                     : "gate-up order";
}

static Status bad_weight(const WeightSpec& spec, const std::string& text) {
  return Status::error(Code::kBadWeights, spec.name + ": " + text);
}

// The file of a part, after checking that the part's range is what the device expects.
static Status open_part(const Device& device, const WeightSpec& spec, const TensorRef& ref,
                        Layout layout, Files* files, std::shared_ptr<MappedFile>* file) {
  const auto bad = [&spec](const std::string& text) { return bad_weight(spec, text); };
  if (!is_quantised(spec.dtype) || ref.dtype != spec.dtype)
    return bad(std::string("packed as ") + dtype_name(ref.dtype) + " for a weight of " +
               dtype_name(spec.dtype) + ", expected int8 or int4 for both");
  if (ref.packed != layout)
    return bad(std::string("packed in ") + layout_name(ref.packed) + ", expected " +
               layout_name(layout));
  const auto bytes =
      static_cast<uint64_t>(device.packed_bytes({spec.name, spec.dtype, ref.shape, {}}, layout));
  if (ref.byte_length != bytes)
    return bad("packed into " + std::to_string(ref.byte_length) + " bytes, expected " +
               std::to_string(bytes));
  if (ref.byte_offset % kPackedAlignment != 0)
    return bad("packed at byte " + std::to_string(ref.byte_offset) + ", expected a multiple of " +
               std::to_string(kPackedAlignment));
  std::shared_ptr<MappedFile>& opened = (*files)[ref.file];
  if (opened == nullptr) MOEPP_CHECK(MappedFile::open(ref.file, &opened));
  if (ref.byte_offset > opened->size() || bytes > opened->size() - ref.byte_offset) {
    return Status::error(Code::kBadFile, spec.name + ": bytes " + std::to_string(ref.byte_offset) +
                                             " to " + std::to_string(ref.byte_offset + bytes) +
                                             " lie past the end of " + ref.file + " (" +
                                             std::to_string(opened->size()) + " bytes)");
  }
  *file = opened;
  return {};
}

// True if the parts are experts of the weight's shape, and as many together as the weight has.
static bool are_all_experts(const WeightSpec& spec) {
  if (spec.shape.size() != 3) return false;
  int64_t left = spec.shape[0];
  for (const TensorRef& ref : spec.parts) {
    if (ref.shape.size() != 3 || ref.shape[0] < 1 || ref.shape[0] > left) return false;
    if (ref.shape[1] != spec.shape[1] || ref.shape[2] != spec.shape[2]) return false;
    left -= ref.shape[0];
  }
  return left == 0;
}

// Copies the parts, one behind the other. The mapping's pages can go then.
static Status copy_parts(const Device& device, const WeightSpec& spec, Layout layout, Files* files,
                         Memory* memory) {
  const int64_t bytes = device.packed_bytes(spec, layout);
  auto* pages = static_cast<std::byte*>(allocate_pages(bytes));
  if (pages == nullptr)
    return Status::error(Code::kOutOfMemory, spec.name + ": " + std::to_string(bytes) +
                                                 " bytes could not be allocated");
  const std::shared_ptr<const void> owner(pages, [bytes](void* all) { release_pages(all, bytes); });
  std::byte* to = pages;
  for (const TensorRef& ref : spec.parts) {
    std::shared_ptr<MappedFile> file;
    MOEPP_CHECK(open_part(device, spec, ref, layout, files, &file));
    std::memcpy(to, file->data() + ref.byte_offset, ref.byte_length);
    file->drop(ref.byte_offset, ref.byte_length);
    to += ref.byte_length;
  }
  *memory = Memory::shared(owner, pages, bytes);
  return {};
}

Status open_packed(const Device& device, const WeightSpec& spec, Layout layout, Files* files,
                   Memory* memory) {
  const TensorRef& ref = spec.parts[0];
  const bool is_whole = spec.parts.size() == 1;
  if (is_whole ? ref.shape != spec.shape : !are_all_experts(spec))
    return bad_weight(spec, "the packed weight has another shape");
  if (!is_whole) return copy_parts(device, spec, layout, files, memory);
  std::shared_ptr<MappedFile> file;
  MOEPP_CHECK(open_part(device, spec, ref, layout, files, &file));
  file->keep(ref.byte_offset, ref.byte_length);
  *memory =
      Memory::shared(file, file->data() + ref.byte_offset, static_cast<int64_t>(ref.byte_length));
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
