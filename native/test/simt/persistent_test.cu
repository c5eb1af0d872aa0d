// Steps of one token as one kernel of many ops: MOEPP_CUDA_DEBUG=persistent. Every buffer has the
// bits that it has when each op is launched, in steps that are launched, recorded and replayed.
#include <memory>
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

using Results = std::vector<std::vector<float>>;

// The results of a step of single ops, launched apart or as one kernel's stages.
template <class Enqueue>
Results step_of(const char* words, int multiprocessors, const Enqueue& enqueue) {
  const Debugging debugging(words);
  simt::emu::gpu().multiprocessors = multiprocessors;
  Arena arena(opened());
  std::vector<std::unique_ptr<Floats>> outputs;
  const int64_t before = simt::emu::counts().cooperative;
  enqueue(arena, outputs);
  EXPECT(simt::emu::counts().cooperative - before == (words[0] == '\0' ? 0 : 1));
  arena.fetch();
  Results results;
  for (const auto& out : outputs)
    results.emplace_back(out->host(), out->host() + out->tensor.elements());
  return results;
}

template <class Enqueue>
void expect_same_step(const std::string& what, const Enqueue& enqueue) {
  for (const int multiprocessors : {1, 5}) {
    const Results apart = step_of("", multiprocessors, enqueue),
                  together = step_of("persistent", multiprocessors, enqueue);
    for (size_t i = 0; i < apart.size(); i++) {
      EXPECT_MESSAGE(same_bits(apart[i].data(), together[i].data(), apart[i].size() * 4),
                     what + ": result " + std::to_string(i) + " differs");
    }
  }
}

struct Product {
  int64_t k, columns;
  Activation activation;
};

// Rows of one page and of several, more parts than pages, columns and k that are no whole units.
// Then experts: the token picks two, one or none of them.
void enqueue_products(DType dtype, Arena& arena, std::vector<std::unique_ptr<Floats>>& outputs) {
  const Product products[] = {{60, 37, Activation::kNone},
                              {5204, 37, Activation::kTanh},
                              {300, 600, Activation::kNone},
                              {60, 163, Activation::kSwiglu}};
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<std::unique_ptr<Floats>> inputs;
  std::vector<LinearArgs> linears;
  const auto weight_of = [&](const Product& p, int64_t groups) {
    const bool swiglu = p.activation == Activation::kSwiglu;
    const Layout layout = swiglu ? Layout::kGateUp : Layout::kMatrix;
    const int64_t rows = swiglu ? 2 * p.columns : p.columns;
    weights.push_back(
        groups == 0
            ? std::make_unique<Weight>(arena, dtype, layout,
                                       std::initializer_list<int64_t>{rows, p.k}, 2)
            : std::make_unique<Weight>(arena, dtype, layout,
                                       std::initializer_list<int64_t>{groups, rows, p.k}, 3));
    return &weights.back()->tensor;
  };
  const auto array = [&](auto& list, std::initializer_list<int64_t> shape, uint32_t seed) {
    list.push_back(std::make_unique<Floats>(arena, shape, seed));
    return &list.back()->tensor;
  };
  for (const Product& p : products) {
    linears.push_back({array(inputs, {1, p.k}, 1), weight_of(p, 0),
                       array(outputs, {1, p.columns}, 5), p.activation});
  }
  const Product expert = {60, 37, Activation::kSwiglu};
  const Tensor* experts = weight_of(expert, 4);
  std::vector<std::unique_ptr<Ints>> ints;
  std::vector<GroupedGemmArgs> grouped;
  const std::vector<std::vector<int32_t>> routings = {
      {0, 1, 1, 2, 2}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0}, {0, 0, 1, 2, 2}};
  for (const std::vector<int32_t>& offsets : routings) {
    ints.push_back(std::make_unique<Ints>(arena, std::initializer_list<int64_t>{5}));
    ints.push_back(std::make_unique<Ints>(arena, std::initializer_list<int64_t>{1, 2}));
    Ints &starts = *ints[ints.size() - 2], &order = *ints.back();
    for (int64_t i = 0; i < 5; i++) starts[i] = offsets[static_cast<size_t>(i)];
    order[0] = 1, order[1] = 0;
    starts.upload(), order.upload();
    GroupedGemmArgs args = {};
    args.x = &inputs[0]->tensor;
    args.expert_offsets = &starts.tensor, args.token_order = &order.tensor;
    args.weight = experts, args.out = array(outputs, {1, 2, expert.columns}, 6);
    args.input_scale = 2.0f, args.activation = expert.activation;
    grouped.push_back(args);
  }
  run_step(arena.device(), [&] {
    const Kernels& kernels = arena.kernels();
    for (const LinearArgs& args : linears) kernels.linear(args, arena.device().queue());
    for (const GroupedGemmArgs& args : grouped) kernels.grouped_gemm(args, arena.device().queue());
    return arena.device().launched();
  });
}

// A token with so many before it, by each of attention's kernels.
void enqueue_attention(DType cache_type, int64_t dim, int64_t context, Arena& arena,
                       std::vector<std::unique_ptr<Floats>>& outputs) {
  constexpr int64_t kQueries = 4, kKeys = 2;
  const PagedStep step({{context - 1, 1}}, 16);
  const PagedInts ints(arena, step);
  const Cache cache(arena, {nullptr, cache_type, 1, step.pages, 16, kKeys, dim, dim});
  Floats q(arena, {1, kQueries, dim}, 1);
  outputs.push_back(
      std::make_unique<Floats>(arena, std::initializer_list<int64_t>{1, kQueries * dim}));
  const AttentionArgs args = {&q.tensor,
                              &ints.positions.tensor,
                              &ints.starts.tensor,
                              &ints.page_table.tensor,
                              &cache.view,
                              &outputs.back()->tensor,
                              0,
                              0.3f};
  run_step(arena.device(), [&] {
    arena.kernels().attention(args, arena.device().queue());
    return arena.device().launched();
  });
}

}  // namespace

MOEPP_TEST(cuda_persistent_products) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4, DType::kF8}) {
    if (!kRepeats && dtype != DType::kBf16) continue;
    expect_same_step(dtype_name(dtype),
                     [&](Arena& arena, auto& outputs) { enqueue_products(dtype, arena, outputs); });
  }
}

MOEPP_TEST(cuda_persistent_attention) {
  for (const int64_t context : {1, 64, 300}) {
    if (!kRepeats && context != 300) continue;
    for (const int64_t dim : {64, 80, 96, 112, 128, 136}) {
      expect_same_step(std::to_string(dim) + " of " + std::to_string(context),
                       [&](Arena& arena, auto& outputs) {
                         enqueue_attention(DType::kBf16, dim, context, arena, outputs);
                       });
    }
    for (const int64_t dim : {8, 136}) {
      expect_same_step("f32 " + std::to_string(dim), [&](Arena& arena, auto& outputs) {
        enqueue_attention(DType::kF32, dim, context, arena, outputs);
      });
    }
  }
}

// The word is not ignored where there is no such kernel.
MOEPP_TEST(cuda_persistent_needs_sm_90) {
  const Debugging debugging("persistent", "hopper-as-ampere");
  std::shared_ptr<Device> device;
  const Status status = open_cuda_device(0, &device);
  EXPECT_MESSAGE(
      status.code == Code::kUnsupported &&
          status.message.find("persistent, which needs kernels for sm_90") != std::string::npos,
      status.message);
}

// One kernel up to the two-layer router of layer 1, which has launches of its own, one after it,
// and one for the head.
MOEPP_TEST(cuda_persistent_step) {
  const TemporaryFile file(SmallModel::floats());
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
    if (!kRepeats && dtype != DType::kI4) continue;
    expect_same(attending(file.path(), dtype), 4, dtype_name(dtype));
  }
  expect_same(attending(file.path(), DType::kBf16), 4, "bf16 cache", DType::kBf16, 9);

  ProgramSpec spec = attending(file.path(), DType::kF32);
  place_of(spec, "rope2")->tensors["qkv"] = "qkv0";
  expect_same(spec, 5, "a rotation that is launched apart");
}

}  // namespace moepp::simt_test
#endif
