#include "bench.h"
#include "op_test.h"

namespace moepp::test {

std::string check_embedding(const EmbeddingArgs& args, const Tokens& tokens) {
  const Tensor& table = *args.table;
  const int64_t h = table.shape[1];
  for (int64_t t : tokens) {
    const int64_t row = args.tokens->i32()[t];
    std::vector<Bounded> expected;
    // Of the sum, and of the product.
    const auto expect = [&](double element, int64_t i) {
      if (args.delta == nullptr) return expected.push_back({element, 0.0});
      const double sum = element + static_cast<double>(args.delta->f32()[t * h + i]);
      const double value = static_cast<double>(args.scale) * sum;
      expected.push_back({value, sum_error(1, std::abs(value))});
    };
    for (int64_t i = 0; i < h; i++) {
      if (table.layout == Layout::kMatrix) {
        expect(panel_element(table, 0, row, i), i);
        continue;
      }
      const int64_t index = row * h + i;
      const float element = table.dtype == DType::kF32 ? table.f32()[index]
                                                       : bf16_to_f32(table.as<uint16_t>()[index]);
      expect(static_cast<double>(element), i);
    }
    const std::string text = at("out", t, difference(args.out->f32() + t * h, expected));
    if (!text.empty()) return text;
  }
  return {};
}

namespace {

struct Case {
  int64_t t, v, h;
};

constexpr Case kCases[] = {{0, 5, 7},     {1, 1, 1},     {3, 5, 7},      {9, 33, 60},
                           {20, 70, 200}, {64, 224, 96}, {70, 100, 1536}};

struct Data {
  Ints tokens;
  Weight table;
  Floats delta, out;
  EmbeddingArgs args = {&tokens.tensor, &table.tensor, nullptr, &out.tensor, 1.0f / 13};

  Data(Arena& arena, const Case& c, DType dtype, Layout layout, bool adds)
      : tokens(arena, {c.t}),
        table(arena, dtype, layout, {c.v, c.h}, 1),
        delta(arena, {c.t, c.h}, 2),
        out(arena, {c.t, c.h}) {
    if (adds) args.delta = &delta.tensor;
    // the last row first
    for (int64_t i = 0; i < c.t; i++) tokens[i] = static_cast<int32_t>((i * 31 + c.v - 1) % c.v);
    tokens.upload();
  }
};

MOEPP_OP_TEST(embedding) {
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4, DType::kF8}) {
      if (dtype == DType::kF8 && !on.on_gpu()) continue;
      for (const Layout layout : {Layout::kRows, Layout::kMatrix}) {
        if (is_blocked(dtype) && layout == Layout::kRows) continue;
        for (const bool adds : {false, true}) {
          if (!adds && on.sanitized()) continue;
          on.start("V " + std::to_string(c.v) + " H " + std::to_string(c.h) + " " +
                   dtype_name(dtype) + (layout == Layout::kRows ? " rows" : "") +
                   (adds ? " and delta" : ""));
          const Data d(on, c, dtype, layout, adds);
          on.expect(d.args, [&](const EmbeddingArgs& a) { return check_embedding(a, all(c.t)); });
        }
      }
    }
  }
}

// Other tokens in each call: the table lies in memory.
void embedding_rows(bench::Run& run, Layout layout, bool adds = false) {
  const int64_t h = run.sizes.hidden, v = run.sizes.vocabulary;
  constexpr int64_t kSteps = 32;
  Weight table(run, DType::kBf16, layout, {v, h}, 1);
  for (const int64_t t : run.sizes.step_tokens) {
    Ints tokens(run, {kSteps, t});
    for (int64_t i = 0; i < kSteps * t; i++)
      tokens[i] = static_cast<int32_t>(static_cast<uint64_t>(i) * 40503 % v);
    tokens.upload();
    Tensor step = tensor(tokens.device(), DType::kI32, {t});
    Floats delta(run, {t, h}, 2), out(run, {t, h});
    const EmbeddingArgs args = {&step, &table.tensor, adds ? &delta.tensor : nullptr, &out.tensor,
                                1.0f / 13};
    const std::string name = "embedding " + std::to_string(v) + " x " + std::to_string(h);
    run.row(
        {name + (layout == Layout::kRows ? "" : ", panels") + (adds ? ", and delta" : ""),
         DType::kBf16,
         t,
         {static_cast<double>(2 * t * h), static_cast<double>((adds ? 8 : 4) * t * h)}},
        args, [t](const EmbeddingArgs& a) { return check_embedding(a, sample(t, 50)); },
        [&](int64_t i) {
          step.data = tokens.device() + i % kSteps * t;
          run.kernels().embedding(args, run.device().queue());
        });
  }
}

MOEPP_BENCH(embedding) {
  embedding_rows(run, Layout::kRows);
}
MOEPP_BENCH(embedding_and_delta) {
  embedding_rows(run, Layout::kRows, true);
}
MOEPP_BENCH(embedding_panels) {
  embedding_rows(run, Layout::kMatrix);
}

}  // namespace
}  // namespace moepp::test
