#include "rank_tokens.h"

#include <cmath>
#include <random>

#include "compare.h"
#include "op_test.h"

namespace moepp::test {

namespace {

// Half of the others, the FFN experts, the rest: an expert's index is not its rank among its kind.
ExpertRuns runs_of(const RankCase& c) {
  ExpertRuns runs;
  runs.append(ExpertKind::kZero, static_cast<int32_t>(c.others / 2));
  runs.append(ExpertKind::kFfn, static_cast<int32_t>(c.ffn));
  runs.append(ExpertKind::kCopy, static_cast<int32_t>(c.others - c.others / 2));
  return runs;
}

float to_bf16_and_back(float value) {
  return bf16_to_f32(f32_to_bf16(value));
}

// As the wire rounds it. A CPU's products take numbers below 2^-126 as 0 before they round; those
// of a GPU do not.
float sent(float value, bool bf16, bool on_gpu) {
  if (!bf16) return value;
  const bool is_lost = !on_gpu && std::fpclassify(value) == FP_SUBNORMAL;
  return to_bf16_and_back(is_lost ? std::copysign(0.0f, value) : value);
}

// A row's element, of a tensor that may be bf16.
float element(const Floats& array, int64_t i) {
  if (array.tensor.dtype == DType::kF32) return array.host()[i];
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(array.host())[i]);
}

bool on_gpu(const Arena& arena) {
  return !arena.device().uses_callers_memory();
}

std::string wrong(const char* field, int64_t i, int64_t got, int64_t expected) {
  return std::string(field) + "[" + std::to_string(i) + "] is " + std::to_string(got) +
         ", expected " + std::to_string(expected);
}

// The array begins with these values, and nothing is written behind them.
std::string expect_values(const char* field, Ints& array, const std::vector<int64_t>& expected) {
  const int64_t count = static_cast<int64_t>(expected.size()), all = array.tensor.elements();
  for (int64_t i = 0; i < all; i++) {
    const int64_t value = i < count ? expected[static_cast<size_t>(i)] : -1;  // poison
    if (array[i] != value) return wrong(field, i, array[i], value);
  }
  return count <= all ? "" : std::string(field) + " is too short";
}

}  // namespace

RankData::RankData(Arena& arena, const RankCase& c, const Placement& placement,
                   const std::shared_ptr<parallel::Group>& group, uint32_t seed)
    : x(arena, {c.tokens_of(group->rank()), c.h}, seed + 100),
      rows(arena, {c.all_tokens(), c.h}),
      received_out(arena, {c.all_tokens(), c.k, c.h}, seed + 200),
      expert_out(arena, {c.tokens_of(group->rank()), c.k, c.h}),
      expert_indices(arena, {c.tokens_of(group->rank()), c.k}),
      expert_rows(arena, {c.tokens_of(group->rank()), c.k}),
      expert_offsets(
          arena,
          {static_cast<int64_t>(placement.held[static_cast<size_t>(group->rank())].size()) + 1}),
      token_order(arena, {c.all_tokens(), c.k}),
      sent_picks(arena, {c.tokens_of(group->rank()), c.k}),
      sent_offsets(arena, {c.ranks + 1}),
      received_picks(arena, {c.all_tokens(), c.k}),
      received_offsets(arena, {c.ranks + 1}) {
  const auto rank = static_cast<size_t>(group->rank());
  dispatch.x = &x.tensor, dispatch.expert_indices = &expert_indices.tensor;
  dispatch.expert_rows = &expert_rows.tensor, dispatch.rows = &rows.tensor;
  dispatch.expert_offsets = &expert_offsets.tensor, dispatch.token_order = &token_order.tensor;
  dispatch.sent_picks = &sent_picks.tensor, dispatch.sent_offsets = &sent_offsets.tensor;
  dispatch.received_picks = &received_picks.tensor;
  dispatch.received_offsets = &received_offsets.tensor;
  dispatch.experts = runs_of(c), dispatch.held = placement.held[rank];
  dispatch.destinations = placement.destinations[rank];
  dispatch.ranks = {group.get(), group->size(), group->rank()};
  collect.received_out = &received_out.tensor, collect.expert_out = &expert_out.tensor;
  collect.sent_picks = &sent_picks.tensor, collect.sent_offsets = &sent_offsets.tensor;
  collect.received_picks = &received_picks.tensor;
  collect.received_offsets = &received_offsets.tensor;
  collect.ranks = dispatch.ranks;
  // bf16 rounds some of it away, and some are too small for it.
  for (int64_t i = 0; i < x.tensor.elements(); i += 11) x[i] = 1e-39f * static_cast<float>(i - 5);
  x.upload();
  pick(c, placement, seed);
}

void RankData::pick(const RankCase& c, const Placement& placement, uint32_t seed) {
  // All of one rank: as many FFN experts as that rank holds.
  int64_t ffn = c.ffn;
  if (c.picked == Picked::kOneRank) {
    ffn = 0;
    while (ffn < c.ffn &&
           placement.destinations[0][static_cast<size_t>(ffn)] == placement.destinations[0][0])
      ffn++;
  }
  const bool none = c.picked == Picked::kNone;
  const Picks picks =
      draw_picks(x.tensor.shape[0], c.k, ffn, c.others, none ? 0.0 : 0.6, seed + 300);
  ffn_picks = picks.offsets.back();
  set(expert_rows, picks.rows);
  const int64_t first = c.others / 2;  // FFN expert
  for (int64_t i = 0; i < expert_rows.tensor.elements(); i++) {
    const auto after = std::upper_bound(picks.offsets.begin(), picks.offsets.end(), picks.rows[i]);
    expert_indices[i] = picks.rows[i] < 0
                            ? static_cast<int32_t>(c.others > 1 ? 0 : c.ffn + first)
                            : static_cast<int32_t>(first + (after - picks.offsets.begin()) - 1);
  }
  expert_indices.upload();
}

World make_world(Arena& arena, const RankCase& c, const Placement& placement, bool counted) {
  World world = {make_groups(c.ranks), {}, {}, {}};
  if (on_gpu(arena)) {
    for (const auto& device : gpu::rank_devices(c.ranks))
      world.arenas.push_back(&world.own_arenas.emplace_back(device, arena.guard));
    std::vector<Status> statuses(world.arenas.size());
    on_ranks(static_cast<int>(world.arenas.size()), [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      statuses[r] = world.arenas[r]->device().join(*world.groups[r]);
      if (statuses[r].ok() && counted) gpu::count_messages(*world.groups[r]);
    });
    for (const Status& status : statuses) must(status);
  } else {
    world.arenas.assign(world.groups.size(), &arena);
  }
  for (size_t r = 0; r < world.arenas.size(); r++)
    world.data.push_back(std::make_unique<RankData>(*world.arenas[r], c, placement, world.groups[r],
                                                    static_cast<uint32_t>(r + 1)));
  return world;
}

void World::poison() const {
  for (size_t r = 0; r < data.size(); r++) {
    const DispatchTokensArgs& d = data[r]->dispatch;
    for (const Tensor* out : {d.rows, d.expert_offsets, d.token_order, d.sent_picks, d.sent_offsets,
                              d.received_picks, d.received_offsets, data[r]->collect.expert_out})
      if (Block* block = arenas[r]->block_of(out->data)) block->poison();  // else it is empty
  }
}

std::string World::faults() const {
  for (Arena* arena : arenas) {
    arena->fetch();
    for (const Block* block : arena->blocks())
      if (!block->margins_intact()) return "touched memory beside its arguments";
  }
  for (const auto& group : groups)
    if (!group->fault().ok()) return group->fault().message;
  return {};
}

static void run_rank(const World& world, size_t rank, const RankWork& work) {
  Device& device = world.arenas[rank]->device();
  Status status = device.begin_step();
  if (status.ok()) {
    work(*world.data[rank], device);
    status = device.launched();
    const Status end = device.end_step();
    if (status.ok()) status = end;
  }
  if (!status.ok()) world.groups[rank]->fail(status);
}

void run_ranks(const World& world, const RankWork& work) {
  on_ranks(static_cast<int>(world.data.size()),
           [&](int rank) { run_rank(world, static_cast<size_t>(rank), work); });
}

void bench_ranks(bench::Run& run, const World& world, const bench::Row& row, const RankWork& work) {
  if (world.data.empty()) return;
  std::thread other([&] {
    while (world.groups[1]->fault().ok()) run_rank(world, 1, work);
  });
  run.row(
      row, [&] { return world.groups[0]->fault().message; },
      [&](int64_t) { run_rank(world, 0, work); });
  world.groups[0]->abort("the bench has ended");
  other.join();
}

std::vector<SentPick> picks_between(const World& world, int from, int to) {
  RankData& data = *world.data[static_cast<size_t>(from)];
  const int64_t chosen = data.expert_rows.tensor.shape[1];
  std::vector<SentPick> picks;
  for (int64_t i = 0; i < data.expert_rows.tensor.elements(); i++) {
    if (data.expert_rows[i] < 0) continue;
    const int32_t expert = data.dispatch.experts.rank_in_kind(data.expert_indices[i]);
    if (data.dispatch.destinations[static_cast<size_t>(expert)] == to)
      picks.push_back({from, i / chosen, data.expert_rows[i], expert});
  }
  return picks;
}

std::string check_dispatch_tokens(const World& world, int rank) {
  RankData& data = *world.data[static_cast<size_t>(rank)];
  const int64_t h = data.x.tensor.shape[1], chosen = data.token_order.tensor.shape[1];
  const std::vector<int32_t>& held = data.dispatch.held;
  const int ranks = static_cast<int>(world.data.size());
  const bool is_gpu = on_gpu(*world.arenas[0]);
  std::vector<int64_t> sent_picks, sent_offsets = {0}, received_offsets = {0};
  std::vector<std::vector<int64_t>> of_place(held.size());  // row * K + j, of each place
  std::vector<std::pair<size_t, size_t>> arrivals;          // place, and which of its picks
  int64_t row = -1;
  for (int other = 0; other < ranks; other++) {
    for (const SentPick& pick : picks_between(world, rank, other)) sent_picks.push_back(pick.row);
    sent_offsets.push_back(static_cast<int64_t>(sent_picks.size()));
    RankData& from = *world.data[static_cast<size_t>(other)];
    int64_t token = -1, j = 0;
    for (const SentPick& pick : picks_between(world, other, rank)) {
      if (pick.token != token) {
        token = pick.token, j = 0, row++;
        for (int64_t i = 0; i < h; i++) {
          float expected =
              sent(from.x[token * h + i], from.dispatch.sends_bf16 && other != rank, is_gpu);
          if (data.rows.tensor.dtype == DType::kBf16) expected = to_bf16_and_back(expected);
          const float got = element(data.rows, row * h + i);
          if (!same_bits(&got, &expected, 4))
            return "rows[" + std::to_string(row) + "][" + std::to_string(i) + "] differs";
        }
      }
      const auto place =
          static_cast<size_t>(std::find(held.begin(), held.end(), pick.expert) - held.begin());
      arrivals.push_back({place, of_place[place].size()});
      of_place[place].push_back(row * chosen + j++);
    }
    received_offsets.push_back(static_cast<int64_t>(arrivals.size()));
  }
  std::vector<int64_t> expert_offsets = {0}, token_order, received_picks;
  for (const auto& list : of_place) {
    token_order.insert(token_order.end(), list.begin(), list.end());
    expert_offsets.push_back(static_cast<int64_t>(token_order.size()));
  }
  for (const auto& [place, number] : arrivals)
    received_picks.push_back(expert_offsets[place] + static_cast<int64_t>(number));
  std::string text = expect_values("expert_offsets", data.expert_offsets, expert_offsets);
  if (text.empty()) text = expect_values("token_order", data.token_order, token_order);
  if (text.empty()) text = expect_values("sent_picks", data.sent_picks, sent_picks);
  if (text.empty()) text = expect_values("sent_offsets", data.sent_offsets, sent_offsets);
  if (text.empty()) text = expect_values("received_picks", data.received_picks, received_picks);
  if (text.empty())
    text = expect_values("received_offsets", data.received_offsets, received_offsets);
  for (int64_t i = (row + 1) * h; text.empty() && i < data.rows.tensor.elements(); i++)
    if (!std::isnan(element(data.rows, i))) text = "rows behind the last are written";
  return text;
}

std::string check_collect_tokens(const World& world, int rank) {
  RankData& data = *world.data[static_cast<size_t>(rank)];
  const int64_t h = data.x.tensor.shape[1];
  for (int to = 0; to < static_cast<int>(world.data.size()); to++) {
    RankData& holder = *world.data[static_cast<size_t>(to)];
    int64_t i = holder.received_offsets[rank];
    for (const SentPick& pick : picks_between(world, rank, to)) {
      const float* expected = &holder.received_out[holder.received_picks[i++] * h];
      if (!same_bits(&data.expert_out[pick.row * h], expected, static_cast<size_t>(h) * 4))
        return "expert_out of row " + std::to_string(pick.row) + " differs";
    }
  }
  for (int64_t i = data.ffn_picks * h; i < data.expert_out.tensor.elements(); i++)
    if (!std::isnan(data.expert_out[i])) return "rows without a pick are written";
  return {};
}

}  // namespace moepp::test
