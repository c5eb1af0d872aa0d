// int8 and int4 weights that a file holds in the device's own order in memory. Such a weight is a
// range of the file, used from a mapping of it. So opening a model reads nothing and copies
// nothing, but for experts of a stack that do not lie together.
//
// The range is the whole weight in panels (panels.h), at a multiple of 64 bytes in the file. It is
// the same for all devices and instruction sets. A file must state the layout's name, and its
// reader compares it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "host/platform.h"
#include "weight_spec.h"

namespace moepp {

constexpr uint64_t kPackedAlignment = 64;  // bytes

// True if a part of the weight is packed; all must be then.
bool is_packed(const WeightSpec& spec);

// A packed weight, after checking that each part's range is what the device expects. One part is
// mapped, and the memory keeps the mapping. Several are copied: experts of a stack, one run of
// neighbours each.
Status open_packed(const Device& device, const WeightSpec& spec, Layout layout,
                   std::map<std::string, std::shared_ptr<MappedFile>>* files, Memory* memory);

// A weight to be written, in the layout of the op that reads it, at a place in the file.
struct PackedEntry {
  WeightSpec spec;
  Layout layout = Layout::kRows;  // in rows, f32 and bf16 can be written, too
  uint64_t byte_offset = 0;
};

// Writes a file: `header`, then each weight in the device's layout (quantised, if its dtype says
// so). They stand in ascending order of byte_offset, with zeros between them; the file is synced to
// disk. Fails when the file exists. Holds one weight in memory at a time.
Status write_packed(const std::shared_ptr<Device>& device, const std::string& path,
                    const std::vector<uint8_t>& header, const std::vector<PackedEntry>& entries,
                    const Control& control);

}  // namespace moepp
