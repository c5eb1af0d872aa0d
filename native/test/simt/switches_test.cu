// MOEPP_CUDA_DEBUG: each word switches off what it names, and no result changes by more than
// another kernel's rounding.
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "debugging.h"
#include "kernel_test.h"
#include "shared_cache.h"
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

// One launch instead of two, and the same bits.
MOEPP_TEST(cuda_switch_of_split_contexts) {
  SharedStep step({{200, 1}}, 16);
  SharedCache cache({nullptr, DType::kF32, 1, step.pages, 16, 1, 8, 8});
  for (int64_t s = 0; s < 201; s++) {
    const int64_t page = step.page_table[static_cast<size_t>(s / 16)];
    for (int64_t i = 0; i < 8; i++) {
      const auto x = static_cast<float>(small_integer(static_cast<size_t>(8 * s + i), 5));
      cache.set(0, page, 0, false, s % 16, i, 0.1f * x);
      cache.set(0, page, 0, true, s % 16, i, x);
    }
  }
  Shared<float> q = filled(8, 1), split = unwritten(8), whole_context = unwritten(8);
  Shared<unsigned char> workspace(1 << 16);
  const auto launches = [&](const char* words, Shared<float>& out) {
    const Debugging debugging(words);
    cuda::Switches switches;
    EXPECT(cuda::read_switches(cuda::debug_words(), &switches).ok());
    cuda::CudaQueue queue(nullptr, kMultiprocessors, 90, switches);
    queue.set_workspace(workspace.device(), static_cast<int64_t>(workspace.size()));
    const Tensor qt = whole(q, {1, 1, 8}), pt = step.positions_tensor(), st = step.starts_tensor(),
                 mt = step.page_table_tensor();
    Tensor ot = whole(out, {1, 8});
    const int64_t before = simt::emu::counts().programmatic;
    run_op(cuda::attention, {&qt, &pt, &st, &mt, &cache.device, &ot, 0, 0.5f}, queue, words);
    return simt::emu::counts().programmatic - before;
  };
  EXPECT(launches("", split) == 2);
  EXPECT(launches("no-split", whole_context) == 1);
  EXPECT(same_rows(split, whole_context));
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
