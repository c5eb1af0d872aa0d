// Steps of one token as one kernel of many ops: MOEPP_CUDA_DEBUG=persistent. Every buffer has the
// bits that it has when each op is launched, in steps that are launched, recorded and replayed.
#include <random>

#include "arrays.h"
#include "attending_model.h"
#include "compare.h"
#include "debugging.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

namespace {

constexpr int64_t kPagesOfAll = 8;  // of 16 tokens: two chunks of attention

struct Ran {
  int64_t launches = 0;  // of the first step, but for those of stages
  int64_t stages = 0;    // launches of stages in it
  std::vector<std::map<std::string, std::vector<float>>> steps;
};

// Random keys and values, so that every chunk counts.
void fill(KvCache& cache) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> page(static_cast<size_t>(cache.view().page_elements()));
  for (int64_t layer = 0; layer < cache.view().layers; layer++) {
    for (int64_t p = 0; p < cache.view().pages; p++) {
      for (float& value : page) value = normal(random);
      EXPECT(cache.write_page(layer, p, page.data()).ok());
    }
  }
}

// Steps of the same sizes: the first is launched, the second recorded, the others replay it. Each
// has another token and position.
Ran run(const ProgramSpec& spec, const char* words, DType cache_type, const Names& capture,
        int multiprocessors) {
  const Debugging debugging(words);
  simt::emu::gpu().multiprocessors = multiprocessors;
  const auto device = opened();
  const auto program = compiled(device, spec);
  std::shared_ptr<KvCache> cache;
  EXPECT(KvCache::create(
             device, {nullptr, cache_type, 3, kPagesOfAll, kPageSize, kKvHeads, kDim, kDim}, &cache)
             .ok());
  fill(*cache);
  std::vector<float> cosine(kDim / 2, 0.6f), sine(kDim / 2, 0.8f);
  std::vector<int32_t> positions(1), starts = {0, 1}, pages;
  for (int32_t p = 0; p < kPagesOfAll; p++) pages.push_back(kPagesOfAll - 1 - p);
  Ran ran;
  for (const int32_t position : {0, 70, 127, 3}) {
    SmallStep small(*program, 1, capture);
    small.tokens[0] = position % static_cast<int32_t>(kVocabulary);
    positions[0] = position;
    const auto input = [&](const char* name, auto& values) {
      small.step.inputs[name] = {values.data(), static_cast<int64_t>(values.size() * 4)};
    };
    input("cosine", cosine), input("sine", sine);
    input("positions", positions), input("starts", starts), input("pages", pages);
    small.step.sizes.pages = kPagesOfAll;
    small.step.cache = cache;
    const auto& counts = simt::emu::counts();
    const int64_t before = counts.programmatic, before_stages = counts.cooperative;
    const Status status = program->run(small.step);
    EXPECT_MESSAGE(status.ok(), status.message);
    if (ran.steps.empty()) {
      ran.launches = counts.programmatic - before;
      ran.stages = counts.cooperative - before_stages;
    }
    ran.steps.push_back(std::move(small.results));
  }
  return ran;
}

void expect_same(const ProgramSpec& spec, int64_t stages, const std::string& what,
                 DType cache_type = DType::kF32, int multiprocessors = 3) {
  for (const Names& capture : {Names(), written(spec)}) {
    const std::string label = what + (capture.empty() ? "" : ", captured");
    const Ran apart = run(spec, "", cache_type, capture, multiprocessors),
              together = run(spec, "persistent", cache_type, capture, multiprocessors);
    EXPECT(apart.stages == 0);
    EXPECT_MESSAGE(together.stages == stages,
                   label + ": " + std::to_string(together.stages) + " launches of stages");
    EXPECT(together.launches < apart.launches);
    for (size_t i = 0; i < apart.steps.size(); i++) {
      for (const auto& [name, values] : apart.steps[i]) {
        // Rows of experts that have none are not written.
        if (name.rfind("up", 0) == 0 || name.rfind("down", 0) == 0 || name.rfind("order", 0) == 0)
          continue;
        EXPECT_MESSAGE(
            same_bits(values.data(), together.steps[i].at(name).data(), values.size() * 4),
            label + ": " + name + " differs in step " + std::to_string(i));
      }
    }
  }
}

}  // namespace

// One kernel up to the two-layer router of layer 1, which has launches of its own, one after it,
// and one for the head.
MOEPP_TEST(cuda_persistent_step) {
  const TemporaryFile file(SmallModel::floats());
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4})
    expect_same(attending(file.path(), dtype), 4, dtype_name(dtype));
}

}  // namespace moepp::simt_test
#endif
