#include "bench.h"
#include "op_test.h"
#include "rank_tokens.h"

namespace moepp::test {

namespace {

void dispatch(const World& world) {
  world.poison();
  run_ranks(world, [](RankData& data, Device& device) {
    device.kernels().dispatch_tokens(data.dispatch, device.queue());
  });
}

MOEPP_OP_TEST(dispatch_tokens) {
  for (const RankCase& c : rank_cases()) {
    for (const Spread spread : kSpreads) {
      for (const bool counted : {false, true}) {
        if (counted && !on.on_gpu()) continue;
        if (takes_minutes(on, c, spread, counted)) continue;
        const World world = make_world(on, c, Placement(c.ranks, c.ffn, spread), counted);
        for (const bool bf16 : {false, true}) {
          on.start(c.name() + ", spread " + std::to_string(static_cast<int>(spread)) +
                   (bf16 ? ", bf16" : "") + (counted ? ", counted" : ""));
          for (const auto& data : world.data) {
            data->dispatch.sends_bf16 = bf16;
            if (on.on_gpu() && bf16) data->rows.tensor.dtype = DType::kBf16;
            on.report(broken_relation(data->dispatch));
          }
          gpu::use_schedule(on.next_schedule());
          dispatch(world);
          on.report(world.faults());
          for (size_t rank = 0; rank < world.data.size(); rank++)
            on.report(check_dispatch_tokens(world, static_cast<int>(rank)));
        }
      }
    }
  }
  gpu::use_schedule(0);
}

// Counters tell which rows and picks have crossed between ranks.
MOEPP_OP_TEST(dispatch_tokens_counts) {
  const RankCase c = {3, {7, 0, 2}, 20, 4, 7, 1};
  const World world = make_world(on, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
  std::vector<int64_t> mail;  // before the step
  for (const auto& group : world.groups) mail.push_back(group->counters().messages_sent);
  dispatch(world);
  on.report(world.faults());
  for (size_t rank = 0; rank < world.data.size(); rank++) {
    int64_t rows = 0, picks = 0, local = 0;
    for (int to = 0; to < c.ranks; to++) {
      int64_t token = -1;
      for (const SentPick& pick : picks_between(world, static_cast<int>(rank), to)) {
        const bool is_own = to == static_cast<int>(rank);
        picks++;
        local += is_own ? 1 : 0;
        rows += !is_own && pick.token != token ? 1 : 0;
        token = pick.token;
      }
    }
    const parallel::Counters counters = world.groups[rank]->counters();
    on.require(counters.rows_sent == rows && counters.picks == picks &&
                   counters.local_picks == local && counters.messages_sent == mail[rank] + 2,
               "the counters of rank " + std::to_string(rank) + " differ");
  }
}

MOEPP_OP_TEST(dispatch_tokens_refuses) {
  const RankCase c = {2, {3, 2}, 8, 2, 5, 2};
  const World world = make_world(on, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
  if (world.data.empty()) return;
  const auto refused = [&](auto change, const std::string& words) {
    DispatchTokensArgs args = world.data[0]->dispatch;
    change(args);
    StepInputs inputs(
        [&](const Tensor* t) { return t == args.expert_rows || t == args.expert_indices; });
    const std::string broken = broken_relation(args),
                      text = broken.empty() ? step_fault(args, inputs) : broken;
    on.require(text.find(words) != std::string::npos && (!text.empty() || words.empty()),
               "expected '" + words + "', got '" + text + "'");
  };
  refused([](DispatchTokensArgs&) {}, "");
  refused([](DispatchTokensArgs& a) { a.destinations.pop_back(); },
          "destinations are 4, expected 5");
  refused([](DispatchTokensArgs& a) { a.destinations[1] = 2; },
          "destinations has 2, expected 0 to 1");
  refused([](DispatchTokensArgs& a) { a.held[1] = 5; }, "held has 5, expected 0 to 4");
  refused([](DispatchTokensArgs& a) { a.held.clear(); }, "held must name an expert");
  refused([](DispatchTokensArgs& a) { a.held.push_back(4); }, "expert_offsets must be [5]");
  refused([](DispatchTokensArgs& a) { a.destinations[4] = 0; },
          "expert 4 is not held by its own destination");
  refused([](DispatchTokensArgs& a) { a.ranks.count = 3; }, "sent_offsets must be [4]");
  Tensor wide = world.data[0]->expert_rows.tensor;
  wide.shape[1] = kMostChosen + 1;
  refused([&](DispatchTokensArgs& a) { a.expert_rows = &wide; }, "tokens have 1 to 16 picks");
  Tensor few = world.data[0]->rows.tensor, many = few;
  few.shape[0] = 2, many.shape[0] = INT32_MAX / 2 + 1;
  refused([&](DispatchTokensArgs& a) { a.rows = &few; }, "P is 2, expected at least the 3 tokens");
  refused([&](DispatchTokensArgs& a) { a.rows = &many; }, "P is 1073741824, expected at most");
  if (on.on_gpu()) return;  // what follows writes where the checks read
  for (const int32_t row : {-2, 6, -1}) {
    world.data[0]->expert_rows[0] = row;
    world.data[0]->expert_indices[0] = 2;  // an FFN expert
    refused([](DispatchTokensArgs&) {}, "pick 0 is of expert 2 in row " + std::to_string(row));
  }
  for (const int32_t expert : {-1, 7, 0, 6}) {  // the last two are no FFN experts
    world.data[0]->expert_rows[0] = 0;
    world.data[0]->expert_indices[0] = expert;
    refused([](DispatchTokensArgs&) {}, "pick 0 is of expert " + std::to_string(expert));
  }
}

MOEPP_BENCH(dispatch_tokens) {
  for (const int64_t t : run.sizes.step_tokens) {
    const bench::Experts e = run.sizes.few_experts();
    const RankCase c = {2, {t}, e.hidden, e.top_k, e.ffn, e.others};
    const World world = make_world(run, c, Placement(c.ranks, c.ffn, Spread::kContiguous));
    const auto bytes = static_cast<double>(4 * t * c.h);
    bench_ranks(
        run, world,
        {"dispatch_tokens " + std::to_string(c.h) + ", 2 ranks", DType::kF32, t, {bytes, bytes}},
        [](RankData& data, Device& device) {
          device.kernels().dispatch_tokens(data.dispatch, device.queue());
        });
  }
}

}  // namespace
}  // namespace moepp::test
