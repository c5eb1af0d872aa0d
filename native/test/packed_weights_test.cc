// Packed weights: a file written and mapped gives what loading gives, and wrong ranges are refused.
#include "weights/packed_weights.h"

#include <cstdio>
#include <filesystem>

#include "compare.h"
#include "packed_model.h"
#include "small_model.h"
#include "test.h"

namespace moepp::test {

static std::shared_ptr<Device> cpu(const std::string& isa = "") {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(2, isa, &device).ok());
  return device;
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

// Each expert of a stack as a part of its own.
static void split_experts(ProgramSpec* spec) {
  for (WeightSpec& weight : spec->weights) {
    if (!is_matrix(weight) || weight.shape.size() != 3) continue;
    const TensorRef whole = weight.parts[0];
    const int64_t experts = whole.shape[0];
    weight.parts.clear();
    for (int64_t e = 0; e < experts; e++) {
      TensorRef part = whole;
      part.shape[0] = 1;
      part.byte_length /= static_cast<uint64_t>(experts);
      part.byte_offset += static_cast<uint64_t>(e) * part.byte_length;
      weight.parts.push_back(part);
    }
  }
}

MOEPP_TEST(packed_experts_are_joined) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const std::string path = file.path() + ".split";
    ProgramSpec loaded, packed;
    EXPECT(pack_model(model, dtype, path, &loaded, &packed).ok());
    split_experts(&packed);
    const std::vector<float> expected = logits("", loaded), joined = logits("", packed);
    EXPECT(!joined.empty() && same_bits(expected.data(), joined.data(), expected.size() * 4));

    const auto refused = [&](const std::string& words, auto change) {
      ProgramSpec spec = packed;
      for (WeightSpec& weight : spec.weights) {
        if (weight.name == "down_proj1") change(weight);
      }
      std::unique_ptr<Program> program;
      const Status status = Program::compile(cpu(), spec, {}, &program);
      EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                     "expected '" + words + "', got '" + status.message + "'");
    };
    refused("another shape", [](WeightSpec& weight) { weight.parts.pop_back(); });
    refused("another shape", [](WeightSpec& weight) { weight.parts.push_back(weight.parts[0]); });
    refused("another shape", [](WeightSpec& weight) { weight.parts[1].shape[0] = INT64_MAX; });
    refused("another shape", [](WeightSpec& weight) { weight.parts[1].shape[1]++; });
    refused("lie past the end",
            [](WeightSpec& weight) { weight.parts[2].byte_offset += uint64_t{1} << 40; });
    refused("packed in rows, expected matrix order",
            [](WeightSpec& weight) { weight.parts[1].packed = Layout::kRows; });
    unlink(path.c_str());
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
  const uint64_t size = std::filesystem::file_size(path);
  refused("lie past the end",  // it begins within the file
          [&](WeightSpec&, TensorRef& ref) { ref.byte_offset = size / 64 * 64 - 4096; });
  refused("w1: packed in gate-up order, expected matrix order",
          [](WeightSpec&, TensorRef& ref) { ref.packed = Layout::kGateUp; });
  refused("w1: packed as int8 for a weight of int4",
          [](WeightSpec& weight, TensorRef&) { weight.dtype = DType::kI4; });
  refused("w1: packed as int8 for a weight of f32",
          [](WeightSpec& weight, TensorRef&) { weight.dtype = DType::kF32; });
  refused("another shape", [](WeightSpec&, TensorRef& ref) { ref.shape = {20, 19}; });
  refused("another shape",
          [](WeightSpec& weight, TensorRef&) { weight.parts.push_back(weight.parts[0]); });
  refused("cannot be opened", [](WeightSpec&, TensorRef& ref) { ref.file += ".missing"; });
  unlink(path.c_str());
}

}  // namespace moepp::test
