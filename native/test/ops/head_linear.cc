#include "products.h"

namespace moepp::test {

// The output as rows of one head: row r is head r % Hq of token r / Hq.
static std::string check_head_linear(const HeadLinearArgs& args, const std::vector<int64_t>& rows,
                                     const std::vector<int64_t>& columns, Inputs inputs) {
  const int64_t heads = args.weight->shape[0], d = args.x->shape[1] / heads;
  const Tensor out =
      tensor(args.out->data, DType::kF32, {args.out->shape[0] * heads, args.weight->shape[1]});
  return ProductReference(*args.weight, Activation::kNone, inputs)
      .check(
          out, rows, columns, 1.0,
          [&](int64_t r) {
            return ProductReference::Row{args.x->f32() + r * d, r % heads};
          },
          [](const Bounded& g, int64_t) { return g; });
}

namespace {

struct Case {
  int64_t t, heads, d, i, o;

  std::string name() const {
    return "T " + std::to_string(t) + " Hq " + std::to_string(heads) + " D " + std::to_string(d) +
           " I " + std::to_string(i) + " O " + std::to_string(o);
  }
};

// One head and many; whole heads and their first parts; odd sizes; each count of rows that has a
// tile of its own.
constexpr Case kCases[] = {{0, 2, 8, 8, 8},     {1, 1, 1, 1, 1},       {1, 3, 60, 37, 33},
                           {2, 5, 48, 32, 70},  {4, 4, 64, 64, 36},    {5, 20, 12, 7, 40},
                           {8, 3, 130, 129, 9}, {13, 2, 61, 40, 65},   {33, 3, 100, 72, 45},
                           {70, 2, 64, 36, 40}, {40, 4, 136, 128, 33}, {131, 2, 72, 64, 130}};

Weight weight_of(Arena& arena, const Case& c, const GemmKind& kind) {
  return Weight(arena, kind.dtype, Layout::kMatrix, {c.heads, c.o, c.i}, 2, 1, 1.0f);
}

template <class X>  // Floats or Activations
struct Data {
  X x;
  Floats out;
  Tensor weight;
  HeadLinearArgs args;

  Data(Arena& arena, const Case& c, const GemmKind& kind, const Weight& all)
      : x(arena, {c.t, c.heads * c.d}, 1),
        out(arena, {c.t, c.heads * c.o}),
        weight(all.tensor),
        args({&x.tensor, &weight, &out.tensor, kind.may_round_x}) {}
};

MOEPP_OP_TEST(head_linear) {
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kCases, kind.dtype)) {
      on.start(kind.name() + " " + c.name());
      const Weight weight = weight_of(on, c, kind);
      Data<Floats> d(on, c, kind, weight);
      for (const Way<HeadLinearArgs>& way : on.ways(d.args)) {
        const Inputs inputs = inputs_of(on, way, kind, c.i);
        on.expect(d.args, way, [&](const HeadLinearArgs& a) {
          return check_head_linear(a, sample(c.t * c.heads, 40), sample(c.o, 30), inputs);
        });
      }
      if (!on.emulated() || c.t == 33)
        on.expect_rows_alone(d.args, {sample(c.t, on.on_gpu() ? 3 : 15)});
    }
  }
}

// The elements that one head reads reach its own columns, and no other.
MOEPP_OP_TEST(head_linear_keeps_heads_apart) {
  if (on.sanitized()) return;
  for (const GemmKind& kind : kinds(on)) {
    const Case c = {9, 4, 40, 32, 36};
    on.start(kind.name() + " " + c.name());
    const Weight weight = weight_of(on, c, kind);
    Data<Floats> d(on, c, kind, weight);
    on.run(d.args);
    on.fetch();
    const std::vector<float> before(d.out.host(), d.out.host() + c.t * c.heads * c.o);
    d.x[(3 * c.heads + 2) * c.d + 31] = NAN;  // the last that is read of head 2 of token 3
    d.x[(3 * c.heads + 1) * c.d + 32] = NAN;  // not read
    d.x.upload();
    on.run(d.args);
    on.fetch();
    for (int64_t r = 0; r < c.t * c.heads; r++) {
      const bool same = same_bits(&before[static_cast<size_t>(r * c.o)], d.out.host() + r * c.o,
                                  4 * static_cast<size_t>(c.o));
      on.require(same == (r != 3 * c.heads + 2),
                 "row " + std::to_string(r) + (same ? " is unchanged" : " differs"));
    }
  }
}

// The two products of latent attention beside its 20 heads, once per layer of a step.
void bench_rows(bench::Run& run, const GemmKind& kind) {
  const bench::LatentHeads& h = run.sizes.latent;
  for (const Case& shape : {Case{0, h.query, h.plain + h.rotated, h.plain, h.latent},
                            Case{0, h.query, h.latent, h.latent, h.value}}) {
    Case c = shape;
    const int64_t bytes = Weight::bytes_of(run, kind.dtype, Layout::kMatrix, {c.heads, c.o, c.i});
    const Weight weight(run, kind.dtype, Layout::kMatrix, {c.heads, c.o, c.i}, 1,
                        run.sizes.cold_bytes / bytes + 1);
    for (const int64_t t : run.sizes.gemm_tokens) {
      c.t = t;
      Data<Activations> d(run, c, kind, weight);
      run.row(
          {"head_linear " + std::to_string(c.heads) + " x " + std::to_string(c.i) + " -> " +
               std::to_string(c.o) + note(kind),
           kind.dtype,
           t,
           {static_cast<double>(bytes + 4 * t * c.heads * c.i),
            static_cast<double>(4 * t * c.heads * c.o)},
           2.0 * static_cast<double>(t * c.heads * c.i * c.o),
           instruction(kind)},
          d.args,
          [&](const HeadLinearArgs& a) {
            return check_head_linear(a, sample(t * c.heads, 9), sample(c.o, 41),
                                     kind.may_round_x ? Inputs::kRounded : gemm_inputs(run));
          },
          [&](int64_t i) {
            d.weight.data = weight.copy(i);
            run.kernels().head_linear(d.args, run.device().queue());
          });
    }
  }
}

MOEPP_BENCH(head_linear_bf16) {
  bench_rows(run, {DType::kBf16});
}
MOEPP_BENCH(head_linear_f32) {
  bench_rows(run, {DType::kF32});
}
MOEPP_BENCH(head_linear_int8) {
  bench_rows(run, {DType::kI8});
}

}  // namespace
}  // namespace moepp::test
