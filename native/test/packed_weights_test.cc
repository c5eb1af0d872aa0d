// Packed weights: a file written and mapped gives what loading gives, and wrong ranges are refused.
#include "weights/packed_weights.h"

#include <cstdio>

#include "compare.h"
#include "small_model.h"
#include "test.h"

namespace moepp::test {

static std::shared_ptr<Device> cpu(const std::string& isa = "") {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(2, isa, &device).ok());
  return device;
}

// The model's weights that GEMMs read, in `dtype`, packed into `path`; their references in
// `packed`.
static Status pack_model(const SmallModel& model, DType dtype, const std::string& path,
                         ProgramSpec* loaded, ProgramSpec* packed) {
  *loaded = model.spec;
  std::vector<PackedEntry> entries;
  uint64_t at = 100;  // the header's 100 bytes
  const std::shared_ptr<Device> device = cpu();
  for (WeightSpec& weight : loaded->weights) {
    const bool gate_up = weight.name.rfind("gate_up", 0) == 0;
    const bool panels = gate_up || weight.name == "table" || weight.name[0] == 'w' ||
                        weight.name.rfind("down", 0) == 0;
    if (!panels) continue;
    weight.dtype = dtype;
    at = (at + 63) / 64 * 64;
    entries.push_back({weight, gate_up ? Layout::kGateUpPanels : Layout::kPanels, at});
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

static std::vector<float> logits(const std::string& isa, const ProgramSpec& spec,
                                 const std::string& unlinked = "") {
  std::unique_ptr<Program> program;
  const Status status = Program::compile(cpu(isa), spec, {}, &program);
  EXPECT_MESSAGE(status.ok(), status.message);
  if (!status.ok()) return {};
  if (!unlinked.empty()) unlink(unlinked.c_str());  // the mapping stays
  SmallStep small(*program, 5);
  EXPECT(program->run(small.step).ok());
  return small.results["logits"];
}

MOEPP_TEST(packed_weights_are_what_loading_makes) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const std::string path = file.path() + "." + dtype_name(dtype);
    ProgramSpec loaded, packed;
    const Status status = pack_model(model, dtype, path, &loaded, &packed);
    EXPECT_MESSAGE(status.ok(), status.message);
    EXPECT(!pack_model(model, dtype, path, &loaded, &packed).ok());  // it exists
    for (const std::string isa : {"scalar", ""}) {
      const std::vector<float> expected = logits(isa, loaded),
                               mapped = logits(isa, packed, isa.empty() ? path : "");
      EXPECT(!mapped.empty() && same_bits(expected.data(), mapped.data(), expected.size() * 4));
    }
  }
}

MOEPP_TEST(packed_weights_are_checked) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const std::string path = file.path() + ".packed";
  ProgramSpec loaded, packed;
  EXPECT(pack_model(model, DType::kI8, path, &loaded, &packed).ok());
  const auto refused = [&](const std::string& words, auto change) {
    ProgramSpec spec = packed;
    for (WeightSpec& weight : spec.weights) {
      if (weight.name == "w1") change(weight, weight.parts[0]);
    }
    std::unique_ptr<Program> program;
    const Status status = Program::compile(cpu(), spec, {}, &program);
    EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                   "expected '" + words + "', got '" + status.message + "'");
  };
  refused("w1: packed into 4159 bytes, expected 4160",
          [](WeightSpec&, TensorRef& ref) { ref.byte_length--; });
  refused("expected a multiple of 64", [](WeightSpec&, TensorRef& ref) { ref.byte_offset += 32; });
  refused("lie past the end",
          [](WeightSpec&, TensorRef& ref) { ref.byte_offset += uint64_t{1} << 40; });
  refused("w1: packed in gate-up panels, expected panels",
          [](WeightSpec&, TensorRef& ref) { ref.packed = Layout::kGateUpPanels; });
  refused("w1: packed as int8 for a weight of int4",
          [](WeightSpec& weight, TensorRef&) { weight.dtype = DType::kI4; });
  refused("w1: packed as int8 for a weight of f32",
          [](WeightSpec& weight, TensorRef&) { weight.dtype = DType::kF32; });
  refused("another shape", [](WeightSpec&, TensorRef& ref) { ref.shape = {20, 19}; });
  refused("must be the only part",
          [](WeightSpec& weight, TensorRef&) { weight.parts.push_back(weight.parts[0]); });
  refused("cannot be opened", [](WeightSpec&, TensorRef& ref) { ref.file += ".missing"; });
  unlink(path.c_str());
}

}  // namespace moepp::test
