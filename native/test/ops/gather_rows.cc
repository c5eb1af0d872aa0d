#include "bench.h"
#include "op_test.h"

namespace moepp::test {

std::string check_gather_rows(const GatherRowsArgs& args) {
  const int64_t h = args.x->shape[1];
  for (int64_t r = 0; r < args.rows->shape[0]; r++) {
    if (!same_bits(args.out->f32() + r * h, args.x->f32() + args.rows->i32()[r] * h,
                   static_cast<size_t>(h) * 4)) {
      return "out[" + std::to_string(r) + "] differs";
    }
  }
  return {};
}

namespace {

struct Case {
  int64_t t, r, h;
};

constexpr Case kCases[] = {{1, 1, 1}, {5, 0, 8}, {5, 3, 7}, {40, 90, 60}, {3, 2, 1536}};

struct Data {
  Floats x, out;
  Ints rows;
  GatherRowsArgs args = {&x.tensor, &rows.tensor, &out.tensor};

  Data(Arena& arena, const Case& c)
      : x(arena, {c.t, c.h}, 1), out(arena, {c.r, c.h}), rows(arena, {c.r}) {
    for (int64_t i = 0; i < c.r; i++) rows[i] = static_cast<int32_t>((c.t - 1 + 7 * i) % c.t);
    rows.upload();
  }
};

MOEPP_OP_TEST(gather_rows) {
  for (const Case& c : kCases) {
    on.start("T " + std::to_string(c.t) + " R " + std::to_string(c.r) + " H " +
             std::to_string(c.h));
    const Data d(on, c);
    on.expect(d.args, &check_gather_rows);
  }
}

MOEPP_BENCH(gather_rows) {
  for (const int64_t t : run.sizes.step_tokens) {
    const int64_t h = run.sizes.hidden;
    const Data d(run, {t, t, h});
    const auto bytes = static_cast<double>(4 * t * h);
    run.op_row({"gather_rows " + std::to_string(h), DType::kF32, t, {bytes, bytes}}, d.args,
               &check_gather_rows);
  }
}

}  // namespace
}  // namespace moepp::test
