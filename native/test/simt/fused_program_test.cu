// Programs with attention on an emulated GPU. In steps of one token the compiler's fused ops are
// one kernel each, with captures and without. They give the bits of the ops apart, which steps of
// two tokens take, and leave the counters of last blocks as they were.
#include <algorithm>
#include <cmath>

#include "attending_model.h"
#include "compare.h"
#include "debugging.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

namespace {

struct Ran {
  int64_t launches;  // of the first step
  std::map<std::string, std::vector<float>> results;
};

// The same step three times: launched, recorded and replayed.
Ran run(const ProgramSpec& spec, int64_t tokens, const Names& capture) {
  const auto device = opened();
  const auto program = compiled(device, spec);
  std::shared_ptr<KvCache> cache;
  EXPECT(
      KvCache::create(device, {nullptr, DType::kF32, 3, 2, kPageSize, kKvHeads, kDim, kDim}, &cache)
          .ok());
  std::vector<float> cosine(static_cast<size_t>(tokens * kDim / 2), 0.6f),
      sine(cosine.size(), 0.8f);
  std::vector<int32_t> positions, starts = {0, static_cast<int32_t>(tokens)}, pages = {1};
  for (int32_t t = 0; t < tokens; t++) positions.push_back(3 + t);  // after keys of zeros
  Ran ran = {};
  for (int i = 0; i < 3; i++) {
    SmallStep small(*program, tokens, capture);
    const auto input = [&](const char* name, auto& values) {
      small.step.inputs[name] = {values.data(), static_cast<int64_t>(values.size() * 4)};
    };
    input("cosine", cosine), input("sine", sine);
    input("positions", positions), input("starts", starts), input("pages", pages);
    small.step.sizes.pages = 1;
    small.step.cache = cache;
    const int64_t before = simt::emu::counts().programmatic;
    const Status status = program->run(small.step);
    EXPECT_MESSAGE(status.ok(), status.message);
    if (i == 0) ran.launches = simt::emu::counts().programmatic - before;
    const std::vector<float>& logits = small.results.at("logits");
    EXPECT(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    EXPECT(i == 0 || logits == ran.results.at("logits"));
    ran.results = small.results;
  }
  return ran;
}

// One token takes so many launches less than two, and has the bits of the first of two. So it is
// with everything captured, too.
void expect_fused(const ProgramSpec& spec, int64_t saved, const std::string& what) {
  for (const Names& capture : {Names(), written(spec)}) {
    const std::string label = what + (capture.empty() ? "" : ", captured");
    const Ran one = run(spec, 1, capture), two = run(spec, 2, capture);
    EXPECT_MESSAGE(two.launches - one.launches == saved,
                   label + ": " + std::to_string(two.launches - one.launches) + " launches less");
    for (const auto& [name, values] : one.results) {
      // The order of rows is that of all tokens' picks.
      if (name.rfind("o", 0) == 0 || name.rfind("expert_rows", 0) == 0 ||
          name.rfind("up", 0) == 0 || name.rfind("down", 0) == 0)
        continue;
      EXPECT_MESSAGE(same_bits(values.data(), two.results.at(name).data(), values.size() * 4),
                     label + ": " + name + " differs");
    }
  }
}

}  // namespace

// Layer 1 has a two-layer router: its o and its norm stay apart.
MOEPP_TEST(cuda_fused_ops_of_a_program) {
  const Debugging debugging("");
  simt::emu::gpu().multiprocessors = 16;  // more blocks than the emulation runs side by side
  const TemporaryFile file(SmallModel::floats());
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI4}) {
    if (kRepeats || dtype == DType::kBf16)
      expect_fused(attending(file.path(), dtype), 8, dtype_name(dtype));
  }

  ProgramSpec spec = attending(file.path(), DType::kF32);
  OpSpec again = *place_of(spec, "qkv0");
  again.label = "again", again.tensors["out"] = "again";
  spec.buffers.push_back({"again", DType::kF32, {kTokens, kColumns}});
  spec.ops.insert(place_of(spec, "rope0"), again);
  expect_fused(spec, 7, "a product in between");

  spec = attending(file.path(), DType::kF32);
  place_of(spec, "rope2")->tensors["qkv"] = "qkv0";
  expect_fused(spec, 7, "a rotation of another product");
}

// While one block of o's kernel routes, the others ask for the next projection, where L2 can keep
// it.
MOEPP_TEST(cuda_fused_ops_look_ahead) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec = attending(file.path(), DType::kF32);
  const auto prefetches = [&](int64_t l2_bytes) {
    const Debugging debugging("");
    simt::emu::gpu().l2_bytes = l2_bytes;
    const int64_t before = simt::emu::counts().prefetches;
    run(spec, 1, {});
    return simt::emu::counts().prefetches - before;
  };
  EXPECT(prefetches(int64_t{50} << 20) > prefetches(1 << 10));
}

}  // namespace moepp::simt_test
#endif
