// MOEPP_CUDA_DEBUG: each word switches off what it names, and no result changes by more than
// another kernel's rounding.
#include "arrays.h"
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "debugging.h"
#include "opened_device.h"
#include "small_model.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

using cuda::GemmKernel;

namespace {

struct Counted {
  int64_t graphs, programmatic, prefetches, waits;
  std::vector<float> logits;
};

// Four steps of the same sizes: the second records a graph.
Counted count_steps(const char* words) {
  const Debugging debugging(words);
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto program = compiled(opened(), model.spec);
  const auto& now = simt::emu::counts();
  const int64_t graphs = now.graphs, programmatic = now.programmatic, prefetches = now.prefetches,
                waits = now.waits;
  Counted counted = {};
  for (int i = 0; i < 4; i++) {
    SmallStep step(*program, 3);
    const Status status = program->run(step.step);
    EXPECT_MESSAGE(status.ok(), status.message);
    counted.logits = step.results.at("logits");
  }
  counted.graphs = now.graphs - graphs, counted.programmatic = now.programmatic - programmatic;
  counted.prefetches = now.prefetches - prefetches, counted.waits = now.waits - waits;
  return counted;
}

}  // namespace

MOEPP_TEST(cuda_switches_of_steps) {
  const Counted all = count_steps("");
  EXPECT(all.graphs == 1 && all.programmatic > 0 && all.prefetches > 0 && all.waits <= 8);
  const Counted no_graph = count_steps("no-graph");
  EXPECT(no_graph.graphs == 0 && no_graph.programmatic > all.programmatic);
  const Counted no_pdl = count_steps("no-pdl");
  EXPECT(no_pdl.programmatic == 0 && no_pdl.graphs == 1);
  const Counted no_prefetch = count_steps(",no-prefetch,");
  EXPECT(no_prefetch.prefetches == 0 && no_prefetch.programmatic == all.programmatic);
  const Counted sync = count_steps("sync,no-pdl");
  EXPECT(sync.graphs == 0 && sync.programmatic == 0 && sync.waits > 40);
  for (const Counted* one : {&no_graph, &no_pdl, &no_prefetch, &sync})
    EXPECT(one->logits == all.logits);
}

MOEPP_TEST(cuda_switch_of_wgmma) {
  for (const char* words : {"", "no-wgmma"}) {
    const Debugging debugging(words);
    const auto device = opened();
    cuda::Gemm gemm = {};
    gemm.picks_per_row = gemm.groups = 1, gemm.rows = 256, gemm.k = gemm.pitch = 64;
    gemm.weight_rows = gemm.columns = 128, gemm.dtype = DType::kBf16;
    const GemmKernel chosen = cuda::choose_gemm(gemm, cuda::CudaQueue::from(device->queue()));
    EXPECT(chosen == (*words == '\0' ? GemmKernel::kSm90 : GemmKernel::kSm80));
    EXPECT(device->info().debug == std::vector<std::string>(*words == '\0' ? 0 : 1, "no-wgmma"));
  }
}

// One launch for a long sequence beside a short one instead of two, and the same but for rounding.
MOEPP_TEST(cuda_switch_of_split_contexts) {
  const auto attended = [](const char* words, int64_t launches) {
    const Debugging debugging(words);
    Arena arena(opened());
    const PagedStep step({{200, 1}, {0, 20}}, 16);
    const PagedInts ints(arena, step);
    const Cache cache(arena, {nullptr, DType::kF32, 1, step.pages, 16, 1, 8, 8});
    Floats q(arena, {step.tokens, 1, 8}, 1), out(arena, {step.tokens, 8});
    const AttentionArgs args = {&q.tensor,
                                &ints.positions.tensor,
                                &ints.starts.tensor,
                                &ints.page_table.tensor,
                                &cache.view,
                                &out.tensor,
                                0,
                                0.5f};
    const int64_t before = simt::emu::counts().programmatic;
    run_step(arena.device(), [&] {
      arena.kernels().attention(args, arena.device().queue());
      return arena.device().launched();
    });
    EXPECT_MESSAGE(simt::emu::counts().programmatic - before == launches, words);
    arena.fetch();
    return std::vector<float>(out.host(), out.host() + out.tensor.elements());
  };
  const std::vector<float> split = attended("", 2), whole = attended("no-split", 1);
  for (size_t i = 0; i < split.size(); i++) EXPECT(std::abs(split[i] - whole[i]) < 1e-5f);
}

MOEPP_TEST(cuda_switch_words_are_checked) {
  const Debugging debugging("no-pdl,nopdl");
  std::shared_ptr<Device> device;
  const Status status = open_cuda_device(0, &device);
  EXPECT_MESSAGE(status.code == Code::kUnsupported &&
                     status.message.find("MOEPP_CUDA_DEBUG holds nopdl") != std::string::npos,
                 status.message);
}

}  // namespace moepp::simt_test
#endif
