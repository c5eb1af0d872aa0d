#include <algorithm>
#include <random>

#include "products.h"

namespace moepp::test {

std::string check_grouped_gemm(const GroupedGemmArgs& args, const std::vector<int64_t>& rows,
                               const std::vector<int64_t>& columns, Inputs inputs) {
  const float* x = args.x->f32();
  const int64_t k = args.weight->shape[2];
  const auto row = [&](int64_t r) {
    int64_t group = 0;
    while (args.expert_offsets->i32()[group + 1] <= r) group++;
    const Tensor* order = args.token_order;
    return ProductReference::Row{x + (order != nullptr ? order->i32()[r] / order->shape[1] : r) * k,
                                 group};
  };
  return ProductReference(*args.weight, args.activation, inputs)
      .check(*args.out, rows, columns, static_cast<double>(args.input_scale), row,
             [](const Bounded& g, int64_t) { return g; });
}

namespace {

// Of kAll and kUneven the first expert has most rows; of kUneven a quarter of the picks need no
// GEMM.
enum class Routing { kAll, kUneven, kNone, kOneExpert, kLastExpert };

struct Case {
  int64_t t, k, n, i, f;
  bool swiglu, gather;
  float input_scale = 1.0f;
  Routing routing = Routing::kUneven;

  int64_t weight_rows() const { return swiglu ? 2 * f : f; }
  Layout layout() const { return swiglu ? Layout::kGateUp : Layout::kMatrix; }
  std::string name() const {
    return "T " + std::to_string(t) + " K " + std::to_string(k) + " N " + std::to_string(n) +
           " I " + std::to_string(i) + " F " + std::to_string(f) + (swiglu ? " swiglu" : "");
  }
};

constexpr Case kCases[] = {
    {1, 1, 1, 1, 1, false, true, 1.0f, Routing::kAll},
    {1, 2, 4, 60, 37, true, true},
    {1, 2, 4, 60, 37, true, true, 1.0f, Routing::kNone},
    {2, 2, 3, 61, 163, false, true, 2.0f},
    {5, 2, 40, 60, 37, true, true, 2.0f},
    {5, 2, 8, 37, 60, false, false},
    {33, 3, 5, 100, 130, false, false, 1.0f, Routing::kLastExpert},
    {40, 2, 3, 61, 17, true, true},
    {40, 2, 3, 72, 131, true, false, 0.5f},
    {50, 3, 5, 40, 131, false, false, 2.0f},
    {70, 2, 2, 33, 16, true, true, 1.0f, Routing::kAll},
    {130, 1, 3, 129, 40, false, true, 1.0f, Routing::kOneExpert},
    {70, 2, 4, 36, 40, true, true},
    {70, 2, 4, 136, 70, true, true},
    {70, 2, 2, 24, 272, false, true},
    {70, 2, 2, 24, 136, true, false},
    {150, 2, 2, 72, 120, true, true},
    {140, 1, 1, 72, 272, false, false, 1.0f, Routing::kAll},
};
// Several chunks of rows; few rows of many experts; rows that hardly fit into a CPU's buffers.
constexpr Case kLargeCases[] = {{100, 3, 5, 33, 16, true, true, 1.0f, Routing::kAll},
                                {100, 1, 5, 129, 40, false, true},
                                {300, 2, 4, 300, 70, true, true},
                                {9, 2, 16, 1536, 66, true, true},
                                {120, 1, 1, 6000, 18, true, true, 1.0f, Routing::kAll}};

// The picks of a token are of different experts.
Picks route(const Case& c) {
  std::mt19937 random(9);
  std::vector<std::vector<int32_t>> of_expert(static_cast<size_t>(c.n));
  for (int64_t pick = 0, first = 0; pick < c.t * c.k; pick++) {
    const int64_t place = pick % c.k;
    if (place == 0) first = random() % 3 == 0 ? random() % c.n : 0;
    const bool left_out = random() % 4 == 0;
    int64_t expert = place < c.n ? (first + place) % c.n : -1;
    if (c.routing == Routing::kNone || (c.routing == Routing::kUneven && left_out)) expert = -1;
    if (c.routing == Routing::kOneExpert) expert = place == 0 ? 0 : -1;
    if (c.routing == Routing::kLastExpert) expert = place == 0 ? c.n - 1 : -1;
    if (expert >= 0) of_expert[static_cast<size_t>(expert)].push_back(static_cast<int32_t>(pick));
  }
  Picks picks;
  picks.offsets.push_back(0);
  for (const auto& list : of_expert) {
    picks.order.insert(picks.order.end(), list.begin(), list.end());
    picks.offsets.push_back(static_cast<int32_t>(picks.order.size()));
  }
  picks.order.resize(static_cast<size_t>(c.t * c.k), INT32_MAX);  // what is past them is not read
  return picks;
}

struct Routed {
  Ints offsets, order;

  Routed(Arena& arena, const Case& c, const Picks& picks)
      : offsets(arena, {c.n + 1}), order(arena, {c.t, c.k}) {
    set(offsets, picks.offsets);
    set(order, picks.order);
  }
};

Weight weight_of(Arena& arena, const Case& c, const GemmKind& kind) {
  return Weight(arena, kind.dtype, c.layout(), {c.n, c.weight_rows(), c.i}, 4, 1, 1.0f);
}

template <class X>  // Floats or Activations
struct Data {
  X x;
  Routed routed;
  Floats out;
  GroupedGemmArgs args;
  int64_t rows;

  Data(Arena& arena, const Case& c, const GemmKind& kind, const Weight& weight, const Picks& picks)
      : x(c.gather ? X(arena, {c.t, c.i}, 3) : X(arena, {c.t, c.k, c.i}, 3)),
        routed(arena, c, picks),
        out(arena, {c.t, c.k, c.f}),
        args({&x.tensor, &routed.offsets.tensor, c.gather ? &routed.order.tensor : nullptr,
              &weight.tensor, &out.tensor, c.input_scale,
              c.swiglu ? Activation::kSwiglu : Activation::kNone, kind.may_round_x}),
        rows(picks.offsets.back()) {}
};

// A case's data, and what its results must be.
struct Tested : Data<Floats> {
  OpTest& on;
  const Case& c;
  const GemmKind& kind;

  Tested(OpTest& on, const Case& c, const GemmKind& kind, const Weight& weight)
      : Data<Floats>(on, c, kind, weight, route(c)), on(on), c(c), kind(kind) {
    on.start(kind.name() + " " + c.name());
  }

  // Of as many elements as the reference computes in a moment.
  std::function<std::string(const GroupedGemmArgs&)> check(const Way<GroupedGemmArgs>& way) const {
    const Inputs inputs = inputs_of(on, way, kind, c.i);
    return [this, inputs](const GroupedGemmArgs& a) -> std::string {
      const auto* bytes = reinterpret_cast<const unsigned char*>(a.out->f32());
      if (!std::all_of(bytes + 4 * rows * c.f, bytes + 4 * c.t * c.k * c.f,
                       [](unsigned char byte) { return byte == kPoison; }))
        return "rows past the last expert are written";
      const int64_t few = c.i > 1000 ? 8 : 24;
      return check_grouped_gemm(a, sample(rows, few), sample(c.f, few), inputs);
    };
  }

  // The results of all rows.
  std::vector<float> multiply(const Way<GroupedGemmArgs>& way) {
    on.run(args, way);
    on.fetch();
    return std::vector<float>(out.host(), out.host() + rows * c.f);
  }

  // Row r alone: one token that goes to the expert of r and to no other.
  void expect_row_alone(const Way<GroupedGemmArgs>& way, const std::vector<float>& all, int64_t r) {
    Picks picks = {{}, {0}, {}};
    for (const int32_t offset : route(c).offsets) picks.offsets.push_back(offset > r ? 1 : 0);
    const Routed routed_alone(on, {1, 1, c.n, c.i, c.f, c.swiglu, c.gather}, picks);
    const int64_t row = c.gather ? routed.order[r] / c.k : r;
    Tensor x_alone = tensor(x.device() + row * c.i, DType::kF32, {1, 1, c.i});
    if (c.gather) x_alone = tensor(x_alone.data, DType::kF32, {1, c.i});
    Floats out_alone(on, {1, 1, c.f});
    GroupedGemmArgs alone = args;
    alone.x = &x_alone, alone.expert_offsets = &routed_alone.offsets.tensor;
    if (c.gather) alone.token_order = &routed_alone.order.tensor;
    alone.out = &out_alone.tensor;
    on.run(alone, way);
    on.fetch();
    on.require(same_bits(out_alone.host(), &all[static_cast<size_t>(r * c.f)], 4 * c.f),
               way.name + " row " + std::to_string(r) + " alone differs");
  }
};

void expect_case(OpTest& on, const Case& c, const GemmKind& kind) {
  const Weight weight = weight_of(on, c, kind);
  Tested tested(on, c, kind, weight);
  for (const Way<GroupedGemmArgs>& way : on.ways(tested.args)) {
    on.expect(tested.args, way, tested.check(way));
    if (on.emulated() && c.t != 40) continue;
    const std::vector<float> all = tested.multiply(way);
    for (const int64_t r : sample(tested.rows, on.on_gpu() ? 3 : 15))
      tested.expect_row_alone(way, all, r);
  }
}

MOEPP_OP_TEST(grouped_gemm) {
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kCases, kind.dtype)) expect_case(on, c, kind);
  }
}

MOEPP_OP_TEST(grouped_gemm_large) {
  if (on.emulated()) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : kLargeCases) expect_case(on, c, kind);
  }
}

// Few blocks, so that each walks several tiles; every order of threads and copies. The last case
// has more steps of k than a ring has stages, and of sm_90 the wider of its two tiles.
MOEPP_OP_TEST(grouped_gemm_in_every_schedule) {
  if (!on.on_gpu()) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : {Case{37, 2, 3, 68, 70, true, true}, Case{20, 2, 3, 67, 21, true, true},
                          Case{20, 2, 2, 328, 120, true, true}}) {
      if (c.i == 67 && on.sanitized()) continue;
      const Weight weight = weight_of(on, c, kind);
      Tested tested(on, c, kind, weight);
      for (const Way<GroupedGemmArgs>& way : ways_on(on, tested.args, 1)) {
        if (c.i == 328 && !way.reads_bf16 && !is_quantised(kind.dtype)) continue;
        on.expect_in_every_schedule(tested.args, way, tested.check(way));
      }
    }
  }
}

// A row is the same whatever the rows beside it hold, and in every run. It is the same on a larger
// card, too, but for the splits of k.
MOEPP_OP_TEST(grouped_gemm_keeps_rows_apart) {
  if (on.sanitized()) return;
  const Case c = {40, 2, 4, 61, 37, true, true, 1.0f, Routing::kAll};
  for (const GemmKind& kind : kinds(on)) {
    const Weight weight = weight_of(on, c, kind);
    Tested d(on, c, kind, weight);
    const auto ways = ways_on(on, d.args, 2), larger = ways_on(on, d.args, 3);
    for (size_t i = 0; i < ways.size(); i++) {
      d.x[7 * c.i + c.i - 1] = d.x[20 * c.i] = 0.5f;
      d.x.upload();
      const std::vector<float> before = d.multiply(ways[i]);
      d.x[7 * c.i + c.i - 1] = NAN, d.x[20 * c.i] = HUGE_VALF;
      d.x.upload();
      const bool splits = ways[i].name.find("decode") == 0;
      const std::vector<float> after = d.multiply(splits ? ways[i] : larger[i]);
      const Inputs inputs = inputs_of(on, ways[i], kind, c.i);
      for (int64_t r = 0; r < d.rows; r++) {
        const int64_t token = d.routed.order[r] / c.k, at = r * c.f;
        if (token == 7 || token == 20) {
          on.report(check_grouped_gemm(on.on_host(d.args), {r}, sample(c.f, c.f), inputs));
        } else {
          on.require(
              same_bits(&before[static_cast<size_t>(at)], &after[static_cast<size_t>(at)], 4 * c.f),
              ways[i].name + " row " + std::to_string(r) + " differs");
        }
      }
    }
  }
}

// The kernel that the device chooses.
MOEPP_OP_TEST(grouped_gemm_op, 80, 90) {
  for (const GemmKind& kind : kinds(on)) {
    for (const int64_t t : {0, 1, 6, 20, 200}) {
      if (t == 200 && on.sanitized()) continue;
      const Case c = {t, 2, 4, 64, 24, true, true};
      const Weight weight = weight_of(on, c, kind);
      Tested tested(on, c, kind, weight);
      const auto way = chosen_way(on, tested.args);
      on.expect(tested.args, way, tested.check(way));
    }
  }
}

// Routings of several steps, each with an expert that has rows, as a router draws them that spreads
// tokens evenly.
std::vector<Picks> draw_steps(const Case& c, int64_t others, size_t count) {
  const double ffn_share = static_cast<double>(c.n) / static_cast<double>(c.n + others);
  std::vector<Picks> steps;
  for (uint32_t seed = 5; steps.size() < count; seed++) {
    Picks picks = draw_picks(c.t, c.k, c.n, others, ffn_share, seed);
    if (picks.experts_used > 0) steps.push_back(std::move(picks));
  }
  return steps;
}

// A call of the row is one after the other of the steps. They differ in what they read, so that a
// decode step finds its experts in memory.
void bench_rows(bench::Run& run, const GemmKind& kind, Case c, int64_t others) {
  const Weight weight(run, kind.dtype, c.layout(), {c.n, c.weight_rows(), c.i}, 3);
  const double expert_bytes = static_cast<double>(weight.bytes()) / static_cast<double>(c.n);
  for (const int64_t t : run.sizes.gemm_tokens) {
    c.t = t;
    const std::vector<Picks> steps = draw_steps(c, others, t > 64 ? 2 : 12);
    Data<Activations> d(run, c, kind, weight, steps[0]);
    // the router and combine read gate_up's, too: it is f32
    if (!c.gather) d.x.hold_as_read(d.args);
    std::deque<Routed> routed;
    double bytes = 0.0, rows = 0.0;
    for (const Picks& picks : steps) {
      routed.emplace_back(run, c, picks);
      bytes += static_cast<double>(picks.experts_used) * expert_bytes;
      rows += static_cast<double>(picks.offsets.back());
    }
    const auto all_steps = [&](int64_t) {
      for (size_t i = steps.size(); i-- > 0;) {
        GroupedGemmArgs args = d.args;
        args.expert_offsets = &routed[i].offsets.tensor;
        if (c.gather) args.token_order = &routed[i].order.tensor;
        run.kernels().grouped_gemm(args, run.device().queue());
      }
    };
    run.row(
        {"grouped_gemm " + std::to_string(c.i) + " -> " + (c.swiglu ? "2 x " : "") +
             std::to_string(c.f) + (c.swiglu ? ", swiglu" : "") + note(kind) + d.x.note(),
         kind.dtype,
         t,
         {bytes + d.x.bytes_per_element() * rows * static_cast<double>(c.i),
          4.0 * rows * static_cast<double>(c.f)},
         2.0 * rows * static_cast<double>(c.i * c.weight_rows()),
         instruction(kind)},
        d.args,
        [&](const GroupedGemmArgs& a) {
          return check_grouped_gemm(a, sample(d.rows, 9), sample(c.f, 41), gemm_inputs(run));
        },
        all_steps);
  }
}
// The gate-up projection with the gather and SwiGLU, and the down projection.
void bench_experts(bench::Run& run, const GemmKind& kind, const bench::Experts& e) {
  bench_rows(run, kind, {0, e.top_k, e.ffn, e.hidden, e.intermediate, true, true}, e.others);
  bench_rows(run, kind, {0, e.top_k, e.ffn, e.intermediate, e.hidden, false, false}, e.others);
}

MOEPP_BENCH(grouped_gemm_bf16) {
  bench_experts(run, {DType::kBf16}, run.sizes.few_experts());
}
MOEPP_BENCH(grouped_gemm_bf16_rounded) {
  bench_experts(run, {DType::kBf16, true}, run.sizes.few_experts());
}
MOEPP_BENCH(grouped_gemm_f32) {
  bench_experts(run, {DType::kF32}, run.sizes.few_experts());
}
MOEPP_BENCH(grouped_gemm_int8) {
  bench_experts(run, {DType::kI8}, run.sizes.few_experts());
}
MOEPP_BENCH(grouped_gemm_int4) {
  bench_experts(run, {DType::kI4}, run.sizes.few_experts());
}
MOEPP_BENCH(grouped_gemm_float8) {
  if (run.device().holds_float8()) bench_experts(run, {DType::kF8}, run.sizes.few_experts());
}
// Small experts, so many that each has a few rows of a prompt.
MOEPP_BENCH(grouped_gemm_many_bf16) {
  bench_experts(run, {DType::kBf16}, run.sizes.many_experts);
}
MOEPP_BENCH(grouped_gemm_many_int8) {
  bench_experts(run, {DType::kI8}, run.sizes.many_experts);
}
MOEPP_BENCH(grouped_gemm_many_int4) {
  bench_experts(run, {DType::kI4}, run.sizes.many_experts);
}
MOEPP_BENCH(grouped_gemm_many_float8) {
  if (run.device().holds_float8()) bench_experts(run, {DType::kF8}, run.sizes.many_experts);
}

}  // namespace
}  // namespace moepp::test
