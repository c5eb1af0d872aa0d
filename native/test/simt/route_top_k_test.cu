#include "kernel_test.h"
#include "route_cases.h"

namespace moepp::simt_test {

namespace {

struct Memory {
  using Floats = Shared<float>;
  using Ints = Shared<int32_t>;
  static constexpr int32_t kUnwrittenInt = INT32_MIN;
  static Floats floats(int64_t n) { return unwritten(n); }
  static Ints ints(int64_t n) { return Ints(static_cast<size_t>(n), kUnwrittenInt); }
  template <class Data>
  static void expect_intact(const std::string&, const Data&) {}
};

void run(const RouteTopKArgs& args) {
  run_op(cuda::route_top_k, args, "route_top_k");
}

}  // namespace

// One block up to 64 tokens and 1024 picks, then blocks of 1024 picks.
MOEPP_TEST(simt_route_top_k) {
  for (const RouteTopKArgs& g : plain_gatings()) {
    for (const RouteCase& shape :
         std::vector<RouteCase>{{1, {{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 1},
                                {1, {{1, 2}, {2, 1}, {3, 1}}, 2},
                                {3, {{0, 1}, {1, 2}, {2, 1}, {3, 1}}, 2},
                                {33, {{0, 16}, {1, 2}, {2, 1}, {3, 1}}, 2},
                                {40, {{0, 5}, {1, 2}, {2, 1}, {3, 1}}, 8},
                                {17, {{0, 10}, {2, 1}, {3, 1}}, 3},
                                {9, {{0, 250}, {1, 4}, {2, 1}, {3, 1}}, 8}}) {
      for (const float scale : {1.0f, 1e-4f, 1e4f, 1e30f, 1e-30f}) {
        RouteCase c = shape;
        c.gating = g, c.scale = scale;
        expect_routes<Memory>(c, "", run);
      }
    }
  }
}

// Each kind with three of the shapes.
MOEPP_TEST(simt_route_top_k_of_every_kind) {
  size_t turn = 0;
  for (const RouteCase& shape : expert_shapes()) {
    for (const RouteCase& c : gating_cases(shape)) {
      if (turn++ % 3 == 0) expect_routes<Memory>(c, "", run);
    }
  }
}

MOEPP_TEST(simt_route_top_k_of_many) {
  const RouteTopKArgs plain = plain_gatings()[0];
  RouteTopKArgs grouped = gating(Scores::kSigmoid, true, false, true);
  grouped.groups = 4, grouped.top_groups = 2;
  for_each_schedule([&] {
    expect_routes<Memory>({270, {{0, 16}, {1, 2}, {2, 1}, {3, 1}}, 4, plain}, "", run);
    expect_routes<Memory>({3, {{3, 3}, {0, 5}, {2, 2}, {1, 1}, {0, 5}}, 4, grouped, true}, "", run);
  });
  expect_routes<Memory>({130, {{0, 250}, {1, 3}, {3, 1}}, 8, plain_gatings()[1]}, "", run);
  expect_routes<Memory>({66, {{0, 300}, {3, 40}}, 2, plain}, "", run);
  expect_routes<Memory>({90, {{0, 512}, {2, 256}}, 12, grouped, true}, "", run);
  expect_routes<Memory>({67, {{0, 1024}}, 16, plain}, "", run);
}

MOEPP_TEST(simt_route_top_k_of_nothing) {
  const RouteCase c = {3, {{0, 4}, {1, 2}, {2, 1}, {3, 1}}, 2, plain_gatings()[0]};
  RouteData<Memory> d(c);
  d.with_args(0, 0, run);
  for (size_t i = 0; i < d.offsets.size(); i++) EXPECT(d.offsets[i] == 0);
  EXPECT(d.rows[0] == Memory::kUnwrittenInt);
}

MOEPP_TEST(simt_route_top_k_degenerate) {
  expect_degenerate_routes<Memory>("", run);
}

MOEPP_TEST(simt_route_top_k_of_nan_and_infinity) {
  for (const int64_t k : {1, 8})
    expect_routes_of_nan_and_infinity<Memory>({6, {{0, 4}, {1, 2}, {2, 1}, {3, 1}}, k}, "", run);
  expect_routes_of_nan_and_infinity<Memory>({6, {{3, 4}, {0, 28}}, 4}, "", run);
}

}  // namespace moepp::simt_test
