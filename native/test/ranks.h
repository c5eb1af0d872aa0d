// Ranks of a group as threads of one process, and the experts that each of them holds.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "device.h"
#include "parallel/group.h"
#include "parallel/local.h"

namespace moepp::test {

using Groups = std::vector<std::shared_ptr<parallel::Group>>;

inline Groups make_groups(int ranks, int64_t deadline_ms = 60000) {
  Groups groups;
  for (auto& communicator : parallel::local_communicators(ranks))
    groups.push_back(std::make_shared<parallel::Group>(std::move(communicator), deadline_ms));
  return groups;
}

// Runs work(rank) on a thread for each rank, to its end.
inline void on_ranks(int ranks, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; rank++) threads.emplace_back(work, rank);
  for (std::thread& thread : threads) thread.join();
}

namespace gpu {
// The GPUs of so many ranks, each with one of its own, or with an emulated one. Empty where there
// are too few. Of a rank that has joined: it counts every message, however small.
std::vector<std::shared_ptr<Device>> rank_devices(int ranks);
void count_messages(parallel::Group& group);
}  // namespace gpu

// contiguous: a run of experts for each rank. round_robin: expert n at rank n % W. copied: as
// contiguous, and every rank holds expert 0, too. doubled: one of a rank's experts is twice among
// those that it holds.
enum class Spread { kContiguous, kRoundRobin, kCopied, kDoubled };
constexpr Spread kSpreads[] = {Spread::kContiguous, Spread::kRoundRobin, Spread::kCopied,
                               Spread::kDoubled};

// Of each rank the experts that it holds, and where its picks go.
struct Placement {
  std::vector<std::vector<int32_t>> held, destinations;

  Placement(int ranks, int64_t experts, Spread spread)
      : held(static_cast<size_t>(ranks)), destinations(held.size()) {
    for (int64_t n = 0; n < experts; n++) {
      const int64_t rank = spread == Spread::kRoundRobin ? n % ranks : n * ranks / experts;
      held[static_cast<size_t>(rank)].push_back(static_cast<int32_t>(n));
      for (auto& list : destinations) list.push_back(static_cast<int32_t>(rank));
    }
    for (size_t rank = 0; rank < held.size(); rank++) {
      std::vector<int32_t>& own = held[rank];
      // More ranks than experts: the copy of an expert is all that a rank holds.
      if ((spread == Spread::kCopied && destinations[rank][0] != static_cast<int32_t>(rank)) ||
          own.empty()) {
        own.push_back(0);
        destinations[rank][0] = static_cast<int32_t>(rank);
      }
      if (spread == Spread::kDoubled) own.push_back(own.front());
    }
  }
};

}  // namespace moepp::test
