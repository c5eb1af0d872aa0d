#include <cstring>

#include "products.h"
#include "weights/panels.h"

namespace moepp::test {

std::string check_linear(const LinearArgs& args, const std::vector<int64_t>& rows,
                         const std::vector<int64_t>& columns, Inputs inputs) {
  const auto finish = [&](Bounded g, int64_t n) -> Bounded {
    if (args.bias != nullptr) {
      g.value += value(args.bias->f32(), n);
      g.tolerance += kRoundoff * (std::abs(g.value) + g.tolerance);
    }
    if (args.activation != Activation::kTanh) return g;
    // |tanh'| <= 1; the function itself is good to two units in the last place.
    const double tanh = std::tanh(g.value);
    return {tanh, g.tolerance + 4.0 * kRoundoff * std::abs(tanh)};
  };
  const float* x = args.x->f32();
  const int64_t k = args.x->shape[1];
  return ProductReference(*args.weight, args.activation, inputs)
      .check(
          *args.out, rows, columns, 1.0,
          [&](int64_t t) {
            return ProductReference::Row{x + t * k, 0};
          },
          finish);
}

namespace {

constexpr Activation kNone = Activation::kNone, kTanh = Activation::kTanh,
                     kSwiglu = Activation::kSwiglu;

struct Case {
  int64_t t, i, o;
  Activation activation = kNone;
  bool biased = false;

  bool swiglu() const { return activation == kSwiglu; }
  int64_t weight_rows() const { return swiglu() ? 2 * o : o; }
  Layout layout() const { return swiglu() ? Layout::kGateUp : Layout::kMatrix; }
  std::string name() const {
    return "T " + std::to_string(t) + " I " + std::to_string(i) + " O " + std::to_string(o) +
           (swiglu()              ? " swiglu"
            : activation == kTanh ? " tanh"
                                  : "") +
           (biased ? " bias" : "");
  }
};

// 1, odd, not a multiple of a vector, a panel or a tile; each count of rows that has a tile of its
// own. Of k: whole units of 16 bytes of f32 and of bf16, and neither; more steps than are in
// flight.
constexpr Case kPlainCases[] = {
    {0, 8, 8},      {1, 1, 1},     {1, 37, 60},   {2, 60, 37},  {2, 2052, 9}, {4, 64, 36},
    {5, 7, 96},     {6, 33, 129},  {8, 129, 64},  {10, 5, 33},  {12, 3, 300}, {14, 60, 1},
    {20, 700, 40},  {23, 64, 64},  {33, 260, 45}, {35, 83, 50}, {40, 37, 60}, {70, 100, 131},
    {130, 70, 163}, {40, 72, 500}, {131, 328, 45}};
constexpr Case kFinishedCases[] = {
    {0, 8, 8, kSwiglu},        {1, 1, 1, kSwiglu},         {1, 37, 61, kNone, true},
    {1, 37, 60, kSwiglu},      {2, 60, 37, kSwiglu},       {3, 8, 1, kTanh, true},
    {3, 61, 163, kNone, true}, {3, 61, 163, kSwiglu},      {7, 128, 31, kSwiglu},
    {8, 129, 1, kTanh, true},  {9, 60, 163, kNone, true},  {9, 60, 163, kSwiglu},
    {11, 21, 30, kTanh},       {13, 61, 65, kTanh, true},  {13, 61, 65, kSwiglu},
    {35, 88, 43, kSwiglu},     {37, 136, 77, kNone, true}, {40, 36, 33, kTanh, true},
    {40, 36, 33, kSwiglu},     {130, 72, 132, kSwiglu},    {260, 40, 131, kNone, true}};
// Many panels, many rows; rows that hardly fit into a CPU's buffers, or not at all.
constexpr Case kLargeCases[] = {{1, 300, 2000},
                                {1, 1536, 520},
                                {13, 64, 520},
                                {70, 300, 200, kTanh, true},
                                {70, 300, 100, kSwiglu},
                                {110, 6000, 33},
                                {13, 50001, 5},
                                {250, 70, 163, kNone, true},
                                {512, 64, 48}};

Weight weight_of(Arena& arena, const Case& c, const GemmKind& kind) {
  return Weight(arena, kind.dtype, c.layout(), {c.weight_rows(), c.i}, 2, 1, 1.0f);
}

template <class X>  // Floats or Activations
struct Data {
  X x;
  Floats bias, out;
  Tensor weight;
  LinearArgs args;

  Data(Arena& arena, const Case& c, const GemmKind& kind, const Weight& all)
      : x(arena, {c.t, c.i}, 1),
        bias(arena, {c.o}, 9, 3.0f),
        out(arena, {c.t, c.o}),
        weight(all.tensor),
        args({&x.tensor, &weight, &out.tensor, c.activation, kind.may_round_x,
              c.biased ? &bias.tensor : nullptr}) {}
};

// As many elements as the reference computes in a moment.
std::string check_some(const LinearArgs& a, Inputs inputs) {
  const int64_t k = a.x->shape[1], few = k > 10000 ? 3 : k > 1000 ? 8 : 30;
  return check_linear(a, sample(a.out->shape[0], few), sample(a.out->shape[1], few), inputs);
}

void expect_case(OpTest& on, const Case& c, const GemmKind& kind) {
  on.start(kind.name() + " " + c.name());
  const Weight weight = weight_of(on, c, kind);
  Data<Floats> d(on, c, kind, weight);
  for (const Way<LinearArgs>& way : on.ways(d.args)) {
    const Inputs inputs = inputs_of(on, way, kind, c.i);
    on.expect(d.args, way, [&](const LinearArgs& a) { return check_some(a, inputs); });
  }
  if (!on.emulated() || c.t == 35)
    on.expect_rows_alone(d.args, {sample(c.t, on.on_gpu() ? 3 : 15)});
}

MOEPP_OP_TEST(linear) {
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kPlainCases, kind.dtype)) expect_case(on, c, kind);
    for (const Case& c : on.cases(kFinishedCases, kind.dtype)) expect_case(on, c, kind);
  }
}

MOEPP_OP_TEST(linear_large) {
  if (on.emulated()) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : kLargeCases) expect_case(on, c, kind);
  }
}

// On either side of the longest rows that are rounded. So long a sum's tolerance would hide it.
MOEPP_OP_TEST(linear_of_most_rounded_inputs) {
  if (on.on_gpu()) return;
  const GemmKind kind = {DType::kBf16, true};
  for (const int64_t inputs : {kMostRoundedInputs, kMostRoundedInputs + 1}) {
    const Case c = {9, inputs, 2};
    expect_case(on, c, kind);
    const Weight weight = weight_of(on, c, kind);
    Data<Floats> d(on, c, kind, weight);
    on.run(d.args);
    const auto exact = on.outputs(d.args);
    round_to_bf16(d.x);
    on.run(d.args);
    const bool rounds = exact[0].bytes == on.outputs(d.args)[0].bytes;
    on.require(rounds == (kind.inputs(on.isa(), inputs) == Inputs::kRounded),
               rounds ? "x was rounded" : "x was not rounded");
  }
}

// The kernel that the device chooses.
MOEPP_OP_TEST(linear_op, 80, 90) {
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : {Case{0, 64, 24},
                          {1, 64, 24},
                          {20, 64, 24},
                          {200, 64, 24},
                          {20, 64, 24, kTanh},
                          {20, 64, 24, kSwiglu}}) {
      on.start(kind.name() + " " + c.name());
      const Weight weight = weight_of(on, c, kind);
      Data<Floats> d(on, c, kind, weight);
      const Way<LinearArgs> way = chosen_way(on, d.args);
      const Inputs inputs = inputs_of(on, way, kind, c.i);
      on.expect(d.args, way, [&](const LinearArgs& a) { return check_some(a, inputs); });
    }
  }
}

// A NaN and an infinity reach their own rows, and no other.
MOEPP_OP_TEST(linear_keeps_rows_apart) {
  if (on.sanitized()) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : {Case{3, 61, 75}, {8, 61, 75}, {29, 61, 75}}) {
      on.start(kind.name() + " " + c.name());
      const Weight weight = weight_of(on, c, kind);
      Data<Floats> d(on, c, kind, weight);
      const int64_t bad = c.t / 2;
      const auto multiply = [&](const Way<LinearArgs>& way, float last, float first) {
        d.x[bad * c.i + c.i - 1] = last, d.x[(bad + 1) * c.i] = first;
        d.x.upload();
        on.run(d.args, way);
        on.fetch();
        return std::vector<float>(d.out.host(), d.out.host() + c.t * c.o);
      };
      for (const Way<LinearArgs>& way : on.ways(d.args)) {
        const std::vector<float> before = multiply(way, 0.5f, 0.5f),
                                 after = multiply(way, NAN, HUGE_VALF);
        for (int64_t t = 0; t < c.t; t++) {
          on.require(t == bad || t == bad + 1 ||
                         same_bits(&before[static_cast<size_t>(t * c.o)],
                                   &after[static_cast<size_t>(t * c.o)], 4 * c.o),
                     way.name + " row " + std::to_string(t) + " differs");
        }
        on.report(check_linear(on.on_host(d.args), {bad, bad + 1}, sample(c.o, c.o),
                               inputs_of(on, way, kind, c.i)));
      }
    }
  }
}

// With swiglu, as grouped_gemm of one expert.
MOEPP_OP_TEST(linear_as_grouped_gemm) {
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kFinishedCases, kind.dtype)) {
      if (!c.swiglu() || (on.emulated() && c.t > 13)) continue;
      on.start(kind.name() + " " + c.name());
      const Weight weight = weight_of(on, c, kind);
      Data<Floats> d(on, c, kind, weight);
      Ints offsets(on, {2});
      set(offsets, {0, static_cast<int32_t>(c.t)});
      Floats out(on, {c.t, 1, c.o});
      const Tensor x = tensor(d.x.device(), DType::kF32, {c.t, 1, c.i}),
                   w = tensor(weight.tensor.data, kind.dtype, {1, c.weight_rows(), c.i},
                              Layout::kGateUp);
      const GroupedGemmArgs grouped = {&x,   &offsets.tensor, nullptr,         &w, &out.tensor,
                                       1.0f, kSwiglu,         kind.may_round_x};
      const auto ways = on.ways(d.args);
      const auto grouped_ways = on.ways(grouped);
      for (size_t i = 0; i < ways.size(); i++) {
        on.run(d.args, ways[i]);
        on.run(grouped, grouped_ways[i]);
        on.expect_same(on.outputs(d.args), on.outputs(grouped),
                       ways[i].name + " grouped_gemm differs");
      }
    }
  }
}

// With one input and the weight 1, out = tanh(x): to two units in the last place, infinities and
// NaN included.
MOEPP_OP_TEST(linear_tanh) {
  const Case c = {on.emulated() ? 700 : 20000, 1, 1, kTanh};
  const GemmKind kind = {DType::kF32};
  Weight weight = weight_of(on, c, kind);
  reinterpret_cast<float*>(weight.panels())[0] = 1.0f;
  weight.upload();
  Data<Floats> d(on, c, kind, weight);
  for (int64_t t = 0; t < c.t; t++) {
    d.x[t] = t % 2 == 0 ? static_cast<float>(t - c.t / 2) * 20.0f / static_cast<float>(c.t)
                        : std::ldexp(d.x[t], static_cast<int>(t % 130) - 126);
  }
  d.x[0] = HUGE_VALF, d.x[1] = -HUGE_VALF, d.x[2] = NAN;
  d.x.upload();
  const auto check = [&](const LinearArgs& a) {
    std::vector<Bounded> expected;
    for (int64_t t = 0; t < c.t; t++) {
      const double tanh = std::tanh(value(a.x->f32(), t));
      expected.push_back({tanh, 4.0 * kRoundoff * std::abs(tanh) + 0x1p-149});
    }
    return difference(a.out->f32(), expected);
  };
  for (const Way<LinearArgs>& way : on.ways(d.args)) on.expect(d.args, way, check);
}

// Panels whose halves, multipliers and zeros are all the same: the halves 0 or 15, every multiplier
// 15, one zero or the other.
void fill_extreme(std::byte* panel, int64_t inputs, int halves, uint16_t flags) {
  for (int64_t b = 0; b < quant_blocks(inputs); b++, panel += kInt4BlockBytes) {
    std::memset(panel, halves, kInt4Values);
    for (int64_t lane = 0; lane < kPanelRows; lane++) {
      const uint16_t words[2] = {static_cast<uint16_t>(0x3c00 | flags), 0xffff};
      std::memcpy(panel + kInt4Values + 2 * lane, &words[0], 2);
      std::memcpy(panel + kInt4Values + 2 * (kPanelRows + lane), &words[1], 2);
    }
  }
}

// The largest sums that int4 has: every input is the largest. The paths of one row, of a few, of
// more and of many give the same bits.
MOEPP_OP_TEST(linear_of_extreme_int4) {
  const Case c = {40, 160, 32};
  const GemmKind kind = {DType::kI4};
  Weight weight = weight_of(on, c, kind);
  Data<Floats> d(on, c, kind, weight);
  for (int64_t i = 0; i < c.t * c.i; i++) d.x[i] = i / c.i % 2 == 0 ? 3.0f : -3.0f;
  d.x.upload();
  for (const int halves : {0x00, 0xff}) {
    for (const uint16_t flags : {0, 15}) {
      fill_extreme(weight.panels(), c.i, halves, flags);
      weight.upload();
      for (const Way<LinearArgs>& way : on.ways(d.args)) {
        std::vector<float> expected;
        for (const int64_t rows : {40, 13, 8, 4, 3, 2, 1}) {
          on.start(way.name + " " + std::to_string(rows) + " rows");
          d.x.tensor.shape[0] = d.out.tensor.shape[0] = rows;
          on.run(d.args, way);
          on.report(check_linear(on.on_host(d.args), sample(rows, 4), sample(c.o, 4),
                                 inputs_of(on, way, kind, c.i)));
          const float* out = d.out.host();
          if (expected.empty()) expected.assign(out, out + rows * c.o);
          on.require(same_bits(expected.data(), out, 4 * static_cast<size_t>(rows * c.o)),
                     "not the bits of more rows");
        }
      }
    }
  }
}

// cached: the weight stays in a cache, as those of a small model do.
void bench_rows(bench::Run& run, const GemmKind& kind, Case c, bool cached = false) {
  const int64_t rows = c.weight_rows(),
                bytes = Weight::bytes_of(run, kind.dtype, c.layout(), {rows, c.i});
  const Weight weight(run, kind.dtype, c.layout(), {rows, c.i}, 1,
                      cached ? 1 : run.sizes.cold_bytes / bytes + 1);
  for (const int64_t t : run.sizes.gemm_tokens) {
    c.t = t;
    Data<Activations> d(run, c, kind, weight);
    d.x.hold_as_read(d.args);
    const auto read =
        static_cast<double>(bytes) + d.x.bytes_per_element() * static_cast<double>(t * c.i);
    run.row(
        {"linear " + std::to_string(c.i) + " -> " + (c.swiglu() ? "2 x " : "") +
             std::to_string(c.o) +
             (c.swiglu() ? ", swiglu"
              : c.biased ? ", bias"
                         : "") +
             note(kind) + d.x.note(),
         kind.dtype, t,
         cached ? bench::Bytes() : bench::Bytes{read, static_cast<double>(4 * t * c.o)},
         2.0 * static_cast<double>(t * c.i * rows), instruction(kind)},
        d.args,
        [&](const LinearArgs& a) {
          return check_linear(a, sample(t, 9), sample(c.o, 41), gemm_inputs(run));
        },
        [&](int64_t i) {
          d.weight.data = weight.copy(i);
          run.kernels().linear(d.args, run.device().queue());
        });
  }
}
void bench_plain(bench::Run& run, const GemmKind& kind) {
  bench_rows(run, kind, {0, run.sizes.hidden, 3 * run.sizes.hidden});
}
void bench_cached(bench::Run& run, DType dtype) {
  bench_rows(run, {dtype}, {0, 512, 1024}, true);
}
// The projections of query heads that share keys, with biases, and the dense layer's FFN.
void bench_dense(bench::Run& run, DType dtype) {
  const bench::Sizes& s = run.sizes;
  const bench::Heads& h = s.grouped;
  bench_rows(run, {dtype}, {0, s.grouped_hidden, (h.query + 2 * h.kv) * h.dim, kNone, true});
  bench_rows(run, {dtype}, {0, h.query * h.dim, s.grouped_hidden});
  bench_rows(run, {dtype}, {0, s.grouped_hidden, s.dense_intermediate, kSwiglu});
}

MOEPP_BENCH(linear_bf16) {
  bench_plain(run, {DType::kBf16});
}
MOEPP_BENCH(linear_bf16_cached) {
  bench_cached(run, DType::kBf16);
}
MOEPP_BENCH(linear_bf16_rounded) {
  bench_plain(run, {DType::kBf16, true});
}
MOEPP_BENCH(linear_f32) {
  bench_plain(run, {DType::kF32});
}
MOEPP_BENCH(linear_int8) {
  bench_plain(run, {DType::kI8});
}
MOEPP_BENCH(linear_int8_cached) {
  bench_cached(run, DType::kI8);
}
MOEPP_BENCH(linear_int4) {
  bench_plain(run, {DType::kI4});
}
MOEPP_BENCH(linear_int4_cached) {
  bench_cached(run, DType::kI4);
}
MOEPP_BENCH(linear_dense_bf16) {
  bench_dense(run, DType::kBf16);
}
MOEPP_BENCH(linear_dense_int8) {
  bench_dense(run, DType::kI8);
}
MOEPP_BENCH(linear_dense_int4) {
  bench_dense(run, DType::kI4);
}

}  // namespace
}  // namespace moepp::test
