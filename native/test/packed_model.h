// The small model with packed weights in a file.
#pragma once

#include "small_model.h"
#include "weights/packed_weights.h"

namespace moepp::test {

// The model's weights that GEMMs read, in `dtype`, packed into `path`; their references in
// `packed`.
inline Status pack_model(const SmallModel& model, DType dtype, const std::string& path,
                         ProgramSpec* loaded, ProgramSpec* packed) {
  *loaded = model.spec;
  std::vector<PackedEntry> entries;
  uint64_t at = 100;  // the header's 100 bytes
  std::shared_ptr<Device> device;
  MOEPP_CHECK(open_cpu_device(2, "", &device));
  for (WeightSpec& weight : loaded->weights) {
    if (!is_matrix(weight)) continue;
    const bool gate_up = weight.name.rfind("gate_up", 0) == 0;
    weight.dtype = dtype;
    at = (at + 63) / 64 * 64;
    entries.push_back({weight, gate_up ? Layout::kGateUp : Layout::kMatrix, at});
    at += static_cast<uint64_t>(device->weight_bytes(weight, entries.back().layout));
  }
  *packed = *loaded;
  for (const PackedEntry& entry : entries) {
    for (WeightSpec& weight : packed->weights) {
      if (weight.name != entry.spec.name) continue;
      TensorRef ref;
      ref.name = weight.name;
      ref.dtype = dtype;
      ref.shape = weight.shape;
      ref.file = path;
      ref.byte_offset = entry.byte_offset;
      ref.byte_length = static_cast<uint64_t>(device->weight_bytes(weight, entry.layout));
      ref.packed = entry.layout;
      weight.parts = {ref};
    }
  }
  return write_packed(device, path, std::vector<uint8_t>(100, 7), entries, {});
}

}  // namespace moepp::test
