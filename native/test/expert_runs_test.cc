#include "ops/expert_runs.h"

#include <utility>
#include <vector>

#include "test.h"

namespace moepp::test {

constexpr ExpertKind F = ExpertKind::kFfn, C = ExpertKind::kConstant, X = ExpertKind::kCopy,
                     Z = ExpertKind::kZero;

using Runs = std::vector<std::pair<ExpertKind, int32_t>>;

MOEPP_TEST(expert_runs) {
  for (const Runs& runs :
       {Runs{{F, 16}, {C, 2}, {X, 1}, {Z, 1}}, Runs{{Z, 3}, {F, 5}, {X, 2}, {C, 1}, {F, 4}, {Z, 1}},
        Runs{{Z, 6}}, Runs{{F, 1}}, Runs{{F, 512}, {X, 256}}, Runs{{F, 1024}},
        Runs{{F, 5}, {C, 3}, {F, 100}, {X, 20}, {Z, 64}, {F, 31}, {C, 1}, {Z, 32}}}) {
    ExpertRuns experts;
    for (const auto& [kind, count] : runs) EXPECT(experts.append(kind, count));
    int32_t counts[kExpertKinds] = {}, expert = 0;
    for (const auto& [kind, count] : runs) {
      for (int32_t i = 0; i < count; i++, expert++) {
        EXPECT(experts.kind_of(expert) == kind);
        EXPECT(experts.rank_in_kind(expert) == counts[static_cast<int>(kind)]++);
      }
    }
    EXPECT(experts.experts == expert);
    for (const ExpertKind kind : {F, C, X, Z})
      EXPECT(experts.count(kind) == counts[static_cast<int>(kind)]);
  }
}

MOEPP_TEST(expert_runs_refused) {
  ExpertRuns full;
  EXPECT(!full.append(F, -1) && full.append(F, 1000));
  EXPECT(!full.append(Z, 25) && full.append(Z, 0));
  for (int run = 1; run < kMostExpertRuns; run++) EXPECT(full.append(X, 1));
  EXPECT(!full.append(X, 1) && full.experts == 1007);
}

}  // namespace moepp::test
