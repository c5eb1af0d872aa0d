#include "bench.h"
#include "op_test.h"
#include "rank_tokens.h"

namespace moepp::test {

namespace {

void run_ranks(OpTest& on, const World& world) {
  for (const auto& data : world.data) on.poison(data->dispatch), on.poison(data->collect);
  on_ranks(static_cast<int>(world.data.size()), [&](int rank) {
    const RankData& data = *world.data[static_cast<size_t>(rank)];
    on.kernels().dispatch_tokens(data.dispatch, on.device().queue());
    on.kernels().collect_tokens(data.collect, on.device().queue());
  });
  for (const Block* block : on.blocks())
    on.require(block->margins_intact(), "touched memory beside its arguments");
  for (const auto& group : world.groups) on.report(group->fault().message);
}

MOEPP_OP_TEST(collect_tokens) {
  if (on.kernels().collect_tokens == nullptr) return;  // a GPU's
  for (const RankCase& c : rank_cases()) {
    for (const Spread spread : kSpreads) {
      on.start(c.name() + ", spread " + std::to_string(static_cast<int>(spread)));
      const World world = make_world(on, c, Placement(c.ranks, c.ffn, spread));
      run_ranks(on, world);
      for (int rank = 0; rank < c.ranks; rank++) {
        on.report(broken_relation(world.data[static_cast<size_t>(rank)]->collect));
        on.report(check_collect_tokens(world, rank));
      }
    }
  }
}

MOEPP_OP_TEST(collect_tokens_refuses) {
  if (on.on_gpu()) return;  // the checks read what the test writes
  const RankCase c = {2, {3, 2}, 8, 2, 5, 2};
  const World world = make_world(on, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
  RankData& data = *world.data[0];
  const auto fault = [&] {
    StepInputs inputs([](const Tensor*) { return true; });
    const std::string broken = broken_relation(data.collect);
    return broken.empty() ? step_fault(data.collect, inputs) : broken;
  };
  const auto refused = [&](Ints& array, int64_t i, int32_t value, const std::string& words) {
    const int32_t before = array[i];
    array[i] = value;
    on.require(fault().find(words) != std::string::npos,
               "expected '" + words + "', got '" + fault() + "'");
    array[i] = before;
  };
  run_ranks(on, world);
  on.report(fault());
  refused(data.sent_offsets, 0, 1, "sent_picks must be below 6");
  refused(data.sent_offsets, 1, 7, "sent_picks must be below 6");
  refused(data.sent_offsets, 2, 7, "sent_picks must be below 6");
  refused(data.sent_picks, 0, -1, "sent_picks must be below 6");
  refused(data.sent_picks, 0, 6, "sent_picks must be below 6");
  refused(data.received_offsets, 1, -1, "received_picks must be below 10");
  refused(data.received_picks, 0, 10, "received_picks must be below 10");
  data.collect.ranks.count = 3;
  on.require(fault() == "sent_offsets must be [4]", "got '" + fault() + "'");
}

MOEPP_BENCH(collect_tokens) {
  if (run.kernels().collect_tokens == nullptr) return;
  for (const int64_t t : run.sizes.step_tokens) {
    const bench::Experts e = run.sizes.few_experts();
    const RankCase c = {2, {t}, e.hidden, e.top_k, e.ffn, e.others};
    const World world = make_world(run, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
    on_ranks(2, [&](int rank) {
      run.kernels().dispatch_tokens(world.data[static_cast<size_t>(rank)]->dispatch,
                                    run.device().queue());
    });
    std::thread other([&] {
      while (world.groups[1]->fault().ok())
        run.kernels().collect_tokens(world.data[1]->collect, run.device().queue());
    });
    const auto bytes = static_cast<double>(4 * world.data[0]->ffn_picks * c.h);
    run.row(
        {"collect_tokens " + std::to_string(c.h) + ", 2 ranks", DType::kF32, t, {bytes, bytes}},
        [&] { return world.groups[0]->fault().message; },
        [&](int64_t) {
          run.kernels().collect_tokens(world.data[0]->collect, run.device().queue());
        });
    world.groups[0]->abort("the bench has ended");
    other.join();
  }
}

}  // namespace
}  // namespace moepp::test
