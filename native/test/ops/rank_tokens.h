// The data of dispatch_tokens and collect_tokens on each rank of a group, and their references.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "bench.h"
#include "op_test.h"
#include "ranks.h"

namespace moepp::test {

enum class Picked { kRandom, kNone, kOneRank };

struct RankCase {
  int ranks;
  std::vector<int64_t> tokens;  // of the ranks in turn
  int64_t h, k, ffn, others;
  Picked picked = Picked::kRandom;

  int64_t tokens_of(int rank) const { return tokens[static_cast<size_t>(rank) % tokens.size()]; }
  int64_t all_tokens() const {
    int64_t sum = 0;
    for (int rank = 0; rank < ranks; rank++) sum += tokens_of(rank);
    return sum;
  }
  std::string name() const {
    std::string text = std::to_string(ranks) + " ranks of";
    for (const int64_t t : tokens) text += " " + std::to_string(t);
    return text + " tokens, H " + std::to_string(h) + " top " + std::to_string(k) + " of " +
           std::to_string(ffn) + " + " + std::to_string(others) +
           (picked == Picked::kNone      ? ", none of FFN"
            : picked == Picked::kOneRank ? ", all of one rank"
                                         : "");
  }
};

// Sanitizers take minutes for many ranks: they see three, and every other combination.
inline bool takes_minutes(const OpTest& on, const RankCase& c, Spread spread, bool counted) {
  return on.sanitized() && (c.ranks != 3 || counted != (static_cast<int>(spread) % 2 == 1));
}

inline const std::vector<RankCase>& rank_cases() {
  static const std::vector<RankCase> cases = {
      {1, {1}, 1, 1, 1, 0},
      {1, {9}, 7, 2, 5, 3},
      {2, {1, 0}, 20, 2, 4, 2},
      {2, {0, 0}, 8, 2, 4, 2},
      {2, {5, 9}, 33, 2, 3, 2},
      {3, {7, 0, 2}, 20, 4, 7, 1},
      {3, {3}, 16, 2, 6, 4, Picked::kNone},
      {3, {6, 1}, 16, 2, 7, 2, Picked::kOneRank},
      {4, {2, 31, 4}, 64, 8, 13, 4},
      {4, {3}, 5, 16, 20, 3},
      {5, {1, 0, 3}, 12, 3, 5, 0},
      {5, {2}, 12, 1, 9, 2},
      {2, {40, 25}, 130, 8, 100, 28},
  };
  return cases;
}

// One rank's.
struct RankData {
  Floats x, rows, received_out, expert_out;
  Ints expert_indices, expert_rows, expert_offsets, token_order, sent_picks, sent_offsets,
      received_picks, received_offsets;
  DispatchTokensArgs dispatch = {};
  CollectTokensArgs collect = {};
  int64_t ffn_picks = 0;

  RankData(Arena& arena, const RankCase& c, const Placement& placement,
           const std::shared_ptr<parallel::Group>& group, uint32_t seed = 1);

 private:
  void pick(const RankCase& c, const Placement& placement, uint32_t seed);
};

// All ranks of a case. Those of GPUs have a device each, whose kernels exchange rows.
struct World {
  Groups groups;
  std::deque<Arena> own_arenas;
  std::vector<Arena*> arenas;  // of each rank
  std::vector<std::unique_ptr<RankData>> data;

  // Before a run, and after it.
  void poison() const;
  std::string faults() const;
};
// `counted`: GPUs send no message whole. Without ranks where there are too few GPUs.
World make_world(Arena& arena, const RankCase& c, const Placement& placement, bool counted = false);

// A step of every rank, each on a thread of its own. A failure is one of the world's faults.
using RankWork = std::function<void(RankData&, Device&)>;
void run_ranks(const World& world, const RankWork& work);
// A row of two ranks with as many tokens each. That of rank 0 is timed; the other one follows it.
void bench_ranks(bench::Run& run, const World& world, const bench::Row& row, const RankWork& work);

// A pick on its way.
struct SentPick {
  int from;
  int64_t token;
  int32_t row, expert;  // row: its expert_rows
};
// The picks that go from one rank to another, in their order.
std::vector<SentPick> picks_between(const World& world, int from, int to);

std::string check_dispatch_tokens(const World& world, int rank);
std::string check_collect_tokens(const World& world, int rank);

}  // namespace moepp::test
