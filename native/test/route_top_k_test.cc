#include "backends.h"
#include "route_cases.h"

namespace moepp::test {

namespace {

struct Memory {
  using Floats = Guarded<float>;
  using Ints = Guarded<int32_t>;
  static constexpr int32_t kUnwrittenInt = -1;  // Guarded's poison
  static Floats floats(int64_t n) { return Floats(n); }
  static Ints ints(int64_t n) { return Ints(n); }
  template <class Data>
  static void expect_intact(const std::string& label, const Data& d) {
    for (const Ints* values : {&d.indices, &d.offsets, &d.order, &d.rows})
      test::expect_intact(label, *values);
    for (const Floats* values : {&d.weights, &d.coefficients}) test::expect_intact(label, *values);
  }
};

auto run_on(const Backend& backend) {
  return [&backend](const RouteTopKArgs& args) {
    backend.isa.kernels->route_top_k(args, backend.pool);
  };
}

}  // namespace

MOEPP_TEST(expert_runs) {
  for (const RouteCase& shape : expert_shapes()) {
    const ExpertRuns experts = expert_runs(shape.runs);
    int32_t counts[kExpertKinds] = {}, expert = 0;
    for (const auto& [kind, count] : shape.runs) {
      for (int i = 0; i < count; i++, expert++) {
        EXPECT(experts.kind_of(expert) == static_cast<ExpertKind>(kind));
        EXPECT(experts.rank_in_kind(expert) == counts[kind]++);
      }
    }
    EXPECT(experts.experts == expert);
    for (int kind = 0; kind < kExpertKinds; kind++)
      EXPECT(experts.count(static_cast<ExpertKind>(kind)) == counts[kind]);
  }
  ExpertRuns full;
  EXPECT(!full.append(ExpertKind::kFfn, -1) && full.append(ExpertKind::kFfn, 1000));
  EXPECT(!full.append(ExpertKind::kZero, 25) && full.append(ExpertKind::kZero, 0));
  for (int run = 1; run < kMostExpertRuns; run++) EXPECT(full.append(ExpertKind::kCopy, 1));
  EXPECT(!full.append(ExpertKind::kCopy, 1) && full.experts == 1007);
}

MOEPP_TEST(route_top_k) {
  for_each_backend([&](const Backend& backend) {
    for (const RouteTopKArgs& g : plain_gatings()) {
      for (const RouteCase& shape :
           std::vector<RouteCase>{{1, {{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 1},
                                  {1, {{1, 2}, {2, 1}, {3, 1}}, 2},
                                  {3, {{0, 1}, {1, 2}, {2, 1}, {3, 1}}, 2},
                                  {300, {{0, 16}, {1, 2}, {2, 1}, {3, 1}}, 2},
                                  {40, {{0, 5}, {1, 2}, {2, 1}, {3, 1}}, 8},
                                  {17, {{0, 10}, {2, 1}, {3, 1}}, 3},
                                  {64, {{0, 250}, {1, 4}, {2, 1}, {3, 1}}, 8}}) {
        for (const float scale : {1.0f, 1e-4f, 1e4f, 1e30f, 1e-30f}) {
          RouteCase c = shape;
          c.gating = g, c.scale = scale;
          expect_routes<Memory>(c, backend.name, run_on(backend));
        }
      }
    }
  });
}

MOEPP_TEST(route_top_k_of_every_kind) {
  for_each_backend([&](const Backend& backend) {
    for (const RouteCase& shape : expert_shapes()) {
      for (RouteCase& c : gating_cases(shape)) {
        expect_routes<Memory>(c, backend.name, run_on(backend));
        c.scale = 1e3f;
        if (c.tokens < 10) expect_routes<Memory>(c, backend.name, run_on(backend));
      }
    }
  });
}

MOEPP_TEST(route_top_k_degenerate) {
  for_each_backend([](const Backend& backend) {
    expect_degenerate_routes<Memory>(backend.name, run_on(backend));
  });
}

MOEPP_TEST(route_top_k_of_nan_and_infinity) {
  for_each_backend([](const Backend& backend) {
    for (const int64_t k : {1, 2, 8}) {
      const RouteCase c = {6, {{0, 4}, {1, 2}, {2, 1}, {3, 1}}, k};
      expect_routes_of_nan_and_infinity<Memory>(c, backend.name, run_on(backend));
    }
    expect_routes_of_nan_and_infinity<Memory>({6, {{3, 4}, {0, 28}}, 4}, backend.name,
                                              run_on(backend));
  });
}

}  // namespace moepp::test
