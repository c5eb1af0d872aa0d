#include "products.h"

namespace moepp::test {

namespace {

struct Case {
  int64_t hq, hkv, d, inputs;
  std::vector<SequenceSpec> sequences = {{21, 1}};
  int64_t pairs = 0;  // rotated ones; 0: d / 2
  bool interleaved = false, biased = false, normed = false;
  int64_t value_d = 0;  // 0: d

  int64_t rotated() const { return pairs > 0 ? pairs : d / 2; }
  int64_t values() const { return value_d > 0 ? value_d : d; }
  int64_t columns() const { return (hq + hkv) * d + hkv * values(); }
  std::string name() const {
    return std::to_string(hq) + "/" + std::to_string(hkv) + " x " + std::to_string(d) + ", " +
           std::to_string(rotated()) + " pairs" + (interleaved ? " interleaved" : "") +
           (biased ? ", bias" : "") + (normed ? ", normed" : "") + ", values " +
           std::to_string(values()) + ", I " + std::to_string(inputs);
  }
};

// One token: halves, parts, interleaved pairs, values of other sizes. Then those that a GPU does in
// two kernels: odd halves, norms, odd rows of x, several tokens.
const Case kCases[] = {{2, 2, 32, 64},
                       {3, 1, 96, 132},
                       {2, 1, 256, 16},
                       {4, 2, 64, 60, {{0, 1}}, 6},
                       {2, 2, 20, 40, {{16, 1}}, 8, false, true},
                       {3, 3, 30, 64, {{5, 1}}, 0, true},
                       {2, 1, 34, 64, {{15, 1}}, 7, true, true},
                       {2, 1, 48, 64, {{9, 1}}, 0, false, true, false, 34},
                       {2, 1, 30, 64},
                       {2, 1, 32, 64, {{3, 1}}, 5},
                       {2, 1, 32, 64, {{3, 1}}, 0, false, true, true},
                       {2, 1, 32, 37, {{3, 1}}, 0, true},
                       {2, 2, 32, 64, {{3, 2}, {0, 0}, {17, 3}}, 0, false, true}};

struct Data {
  const PagedStep step;
  PagedInts ints;
  Cache cache;
  Floats x, bias, qkv, cosine, sine, q_norm, k_norm, q;
  LinearRopeStoreArgs args = {};

  Data(Arena& arena, const Case& c, DType cache_dtype, const Weight& weight, bool may_round_x)
      : step(c.sequences, 16),
        ints(arena, step),
        cache(arena, {nullptr, cache_dtype, 2, step.pages, 16, c.hkv, c.d, c.values()}),
        x(arena, {step.tokens, c.inputs}, 1),
        bias(arena, {c.columns()}, 9, 3.0f),
        qkv(arena, {step.tokens, c.columns()}),
        cosine(arena, {step.tokens, c.rotated()}, 2),
        sine(arena, {step.tokens, c.rotated()}, 3),
        q_norm(arena, {c.d}, 4),
        k_norm(arena, {c.d}, 5),
        q(arena, {step.tokens, c.hq, c.d}) {
    args.linear = {&x.tensor,         &weight.tensor, &qkv.tensor,
                   Activation::kNone, may_round_x,    c.biased ? &bias.tensor : nullptr};
    args.store = {&qkv.tensor,
                  &cosine.tensor,
                  &sine.tensor,
                  &ints.positions.tensor,
                  &ints.starts.tensor,
                  &ints.page_table.tensor,
                  &cache.view,
                  &q.tensor,
                  1};
    if (c.normed)
      args.store.q_norm = &q_norm.tensor, args.store.k_norm = &k_norm.tensor,
      args.store.eps = 1e-3f;
    args.store.interleaved = c.interleaved;
  }
};

std::string check(const LinearRopeStoreArgs& a, Inputs inputs, int64_t columns) {
  const int64_t t = a.linear.x->shape[0];
  const std::string text =
      check_linear(a.linear, sample(t, 3), sample(a.linear.out->shape[1], columns), inputs);
  return text.empty() ? check_rope_store(a.store, sample(t, 50)) : text;
}

void expect_as_apart(OpTest& on, const Case& c, const GemmKind& kind, DType cache_dtype) {
  on.start(kind.name() + " " + c.name() + " " + dtype_name(cache_dtype));
  const Weight weight(on, kind.dtype, Layout::kMatrix, {c.columns(), c.inputs}, 2, 1, 1.0f);
  Data d(on, c, cache_dtype, weight, kind.may_round_x);
  const Inputs inputs = inputs_of(on, chosen_way(on, d.args.linear), kind, c.inputs);
  on.poison(d.args);
  on.run(d.args.linear), on.run(d.args.store);
  const auto apart = on.outputs(d.args);
  on.expect(d.args, [&](const LinearRopeStoreArgs& a) {
    on.expect_same(apart, on.outputs(d.args), "the two ops give others");
    return check(a, inputs, 60);
  });
  on.require(d.cache.numbers() == d.step.tokens * c.hkv * (c.d + c.values()),
             "touched another token's element");
}

// The op gives the bits of the two ops.
MOEPP_OP_TEST(linear_rope_store) {
  if (on.device().kernels().linear_rope_store == nullptr) return;
  for (const GemmKind& kind : kinds(on)) {
    for (const Case& c : on.cases(kCases, kind.dtype)) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) expect_as_apart(on, c, kind, dtype);
    }
  }
}

// Weights of as many layers as no cache holds.
MOEPP_BENCH(linear_rope_store_bf16) {
  if (run.kernels().linear_rope_store == nullptr) return;
  const bench::Heads h = run.sizes.plain();
  Case c = {h.query, h.kv, h.dim, run.sizes.hidden};
  const int64_t bytes =
      Weight::bytes_of(run, DType::kBf16, Layout::kMatrix, {c.columns(), c.inputs});
  const Weight weight(run, DType::kBf16, Layout::kMatrix, {c.columns(), c.inputs}, 1,
                      run.sizes.cold_bytes / bytes + 1);
  for (const int64_t t : {1, 8}) {
    c.sequences.assign(static_cast<size_t>(t), {100, 1});
    Data d(run, c, DType::kBf16, weight, false);
    round_to_bf16(d.x);
    Tensor one = weight.tensor;
    d.args.linear.weight = &one;
    run.row(
        {"linear " + std::to_string(c.inputs) + " -> " + std::to_string(c.columns()) +
             " + rope_store",
         DType::kBf16,
         t,
         {static_cast<double>(bytes + 4 * t * c.inputs),
          static_cast<double>(4 * t * (c.columns() + c.hq * c.d))}},
        d.args, [&](const LinearRopeStoreArgs& a) { return check(a, gemm_inputs(run), 41); },
        [&](int64_t i) {
          one.data = weight.copy(i);
          run.kernels().linear_rope_store(d.args, run.device().queue());
        });
  }
}

}  // namespace
}  // namespace moepp::test
