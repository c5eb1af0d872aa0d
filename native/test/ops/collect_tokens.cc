#include "bench.h"
#include "op_test.h"
#include "rank_tokens.h"

namespace moepp::test {

namespace {

void dispatch_and_collect(const World& world) {
  world.poison();
  run_ranks(world, [](RankData& data, Device& device) {
    device.kernels().dispatch_tokens(data.dispatch, device.queue());
    device.kernels().collect_tokens(data.collect, device.queue());
  });
}

MOEPP_OP_TEST(collect_tokens) {
  for (const RankCase& c : rank_cases()) {
    for (const Spread spread : kSpreads) {
      for (const bool counted : {false, true}) {
        if (counted && !on.on_gpu()) continue;
        if (takes_minutes(on, c, spread, counted)) continue;
        on.start(c.name() + ", spread " + std::to_string(static_cast<int>(spread)) +
                 (counted ? ", counted" : ""));
        const World world = make_world(on, c, Placement(c.ranks, c.ffn, spread), counted);
        gpu::use_schedule(on.next_schedule());
        dispatch_and_collect(world);
        on.report(world.faults());
        for (size_t rank = 0; rank < world.data.size(); rank++) {
          on.report(broken_relation(world.data[rank]->collect));
          on.report(check_collect_tokens(world, static_cast<int>(rank)));
        }
      }
    }
  }
  gpu::use_schedule(0);
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
  dispatch_and_collect(world);
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
  for (const int64_t t : run.sizes.step_tokens) {
    const bench::Experts e = run.sizes.few_experts();
    const RankCase c = {2, {t}, e.hidden, e.top_k, e.ffn, e.others};
    const World world = make_world(run, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
    run_ranks(world, [](RankData& data, Device& device) {
      device.kernels().dispatch_tokens(data.dispatch, device.queue());
    });
    const int64_t picks = world.data.empty() ? 0 : world.data[0]->ffn_picks;
    const auto bytes = static_cast<double>(4 * picks * c.h);
    bench_ranks(
        run, world,
        {"collect_tokens " + std::to_string(c.h) + ", 2 ranks", DType::kF32, t, {bytes, bytes}},
        [](RankData& data, Device& device) {
          device.kernels().collect_tokens(data.collect, device.queue());
        });
  }
}

}  // namespace
}  // namespace moepp::test
