#include <cmath>

#include "bench.h"
#include "op_test.h"

namespace moepp::test {

std::string check_rope_table(const RopeTableArgs& args, const Tokens& tokens) {
  const int64_t count = args.frequencies->shape[1];
  for (int64_t t : tokens) {
    const int64_t b = sequence_of(args.sequence_starts->i32(), t);
    const float position = static_cast<float>(args.positions->i32()[t]) / args.position_divisor;
    std::vector<Bounded> cosine, sine;
    for (int64_t j = 0; j < count; j++) {
      const float angle = position * args.frequencies->f32()[b * count + j];  // the contract's f32
      const double magnitude = static_cast<double>(args.magnitude),
                   c = magnitude * std::cos(static_cast<double>(angle)),
                   s = magnitude * std::sin(static_cast<double>(angle));
      // one unit in the last place, and the product's rounding
      const double roundings = args.magnitude == 1.0f ? 2.0 : 3.01;
      cosine.push_back({c, roundings * kRoundoff * std::abs(c)});
      sine.push_back({s, roundings * kRoundoff * std::abs(s)});
    }
    const std::string c = difference(args.cosine->f32() + t * count, cosine),
                      s = difference(args.sine->f32() + t * count, sine);
    if (!c.empty()) return "cosine[" + std::to_string(t) + "]" + c;
    if (!s.empty()) return "sine[" + std::to_string(t) + "]" + s;
  }
  return {};
}

namespace {

struct Case {
  int64_t t, pairs;
  float divisor = 1.0f, magnitude = 1.0f;
  // the beginnings of the sequences, each with a base of its own
  std::vector<int32_t> starts = {};
};

struct Data {
  Ints positions, starts;
  Floats frequencies, cosine, sine;
  RopeTableArgs args = {&positions.tensor, &starts.tensor, &frequencies.tensor,
                        &cosine.tensor,    &sine.tensor,   1.0f};

  Data(Arena& arena, const Case& c)
      : positions(arena, {c.t}),
        starts(arena, {static_cast<int64_t>(c.starts.size()) + 1}),
        frequencies(arena, {static_cast<int64_t>(c.starts.size()), c.pairs}),
        cosine(arena, {c.t, c.pairs}),
        sine(arena, {c.t, c.pairs}) {
    args.position_divisor = c.divisor, args.magnitude = c.magnitude;
    for (int64_t i = 0; i < c.t; i++) positions[i] = static_cast<int32_t>(i);
    positions.upload();
    std::vector<int32_t> all_starts = c.starts;
    all_starts.push_back(static_cast<int32_t>(c.t));
    set(starts, all_starts);
    for (int64_t i = 0; i < frequencies.tensor.elements(); i++) {
      frequencies[i] = std::pow(1e4f * static_cast<float>(1 + i / c.pairs),
                                -static_cast<float>(i % c.pairs) / static_cast<float>(c.pairs));
    }
    frequencies.upload();
  }
};

// Positions up to the largest; of three sequences the second is empty.
MOEPP_OP_TEST(rope_table) {
  const int64_t shapes[][2] = {{1, 1}, {5, 10}, {70, 48}, {3, 128}};
  for (const auto& [t, pairs] : shapes) {
    for (const auto& [divisor, magnitude] :
         {std::pair{1.0f, 1.0f}, {2.5f, 1.0f}, {1.0f, 1.1386294f}, {1.0f, 0.3f}}) {
      on.start("T " + std::to_string(t) + " J " + std::to_string(pairs));
      const auto second = static_cast<int32_t>((t + 1) / 2);
      Data d(on, {t, pairs, divisor, magnitude, {0, second, second}});
      for (int64_t i = 0; i < t; i++) {
        const int64_t far = i % 3 == 1 ? 100000 + i : INT32_MAX - i;
        if (i % 3 != 0) d.positions[i] = static_cast<int32_t>(far);
      }
      d.positions.upload();
      on.expect(d.args, [t = t](const RopeTableArgs& a) { return check_rope_table(a, all(t)); });
    }
  }
}

MOEPP_BENCH(rope_table) {
  for (const int64_t t : run.sizes.step_tokens) {
    const int64_t pairs = run.sizes.head_dim / 2;
    const Data d(run, {t, pairs, 1.0f, 1.0f, {0}});
    run.op_row({"rope_table " + std::to_string(pairs),
                DType::kF32,
                t,
                {0.0, static_cast<double>(8 * t * pairs)}},
               d.args, [t](const RopeTableArgs& a) { return check_rope_table(a, sample(t, 50)); });
  }
}

}  // namespace
}  // namespace moepp::test
