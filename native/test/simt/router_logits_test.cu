#include "kernel_test.h"

namespace moepp::simt_test {

struct RouterCase {
  int64_t t, h, g, e, c;  // g 0: no hidden layer
  bool residual;
};

static void expect_router_logits(const RouterCase& c) {
  const int64_t g = c.g > 0 ? c.g : c.h, xs = 2 * c.c;
  Shared<float> x = filled(c.t * c.h, 1), hidden = filled(c.t * g, 2),
                previous = filled(c.t * c.e, 3);
  Shared<float> router = filled(c.e * g, 4), map = filled(c.e * c.e, 5),
                constant = filled(xs * c.h, 6);
  const Tensor xt = whole(x, {c.t, c.h}), ht = whole(hidden, {c.t, g}),
               pt = whole(previous, {c.t, c.e});
  const Tensor rt = whole(router, {c.e, g}), mt = whole(map, {c.e, c.e}),
               ct = whole(constant, {xs, c.h});
  const std::string label =
      "T " + std::to_string(c.t) + " H " + std::to_string(c.h) + " E " + std::to_string(c.e);
  const auto run = [&](int64_t first, int64_t count, Shared<float>& logits, Shared<float>& scores) {
    const Tensor x1 = rows_of(xt, first, count), h1 = rows_of(ht, first, count),
                 p1 = rows_of(pt, first, count);
    Tensor lt = whole(logits, {count, c.e}), st = whole(scores, {count, xs});
    const RouterLogitsArgs args = {&x1, c.g > 0 ? &h1 : nullptr,    c.residual ? &p1 : nullptr,
                                   &rt, c.residual ? &mt : nullptr, c.c > 0 ? &ct : nullptr,
                                   &lt, c.c > 0 ? &st : nullptr};
    run_op(cuda::router_logits, args, label);
    expect_no_difference(label, check_router_logits(args, all(count)));
  };
  Shared<float> logits = unwritten(c.t * c.e), scores = unwritten(c.t * xs);
  run(0, c.t, logits, scores);
  for (int64_t t : {int64_t{0}, c.t / 2, c.t - 1}) {  // alone, a row gives the same bits
    Shared<float> logits1 = unwritten(c.e), scores1 = unwritten(xs);
    run(t, 1, logits1, scores1);
    EXPECT_MESSAGE(same_bits(logits1.data(), logits.data() + t * c.e, static_cast<size_t>(c.e) * 4),
                   label);
    EXPECT_MESSAGE(same_bits(scores1.data(), scores.data() + t * xs, static_cast<size_t>(xs) * 4),
                   label);
  }
}

// With 4 multiprocessors the tiles are of one token below 4, of 4 below 128, then of 8.
MOEPP_TEST(simt_router_logits) {
  for (const RouterCase& c :
       {RouterCase{1, 1, 0, 4, 1, false}, RouterCase{3, 60, 0, 9, 2, true},
        RouterCase{2, 48, 64, 8, 2, true}, RouterCase{7, 37, 5, 7, 2, false},
        RouterCase{1, 1536, 0, 20, 2, true}, RouterCase{5, 1536, 0, 20, 2, true},
        RouterCase{131, 48, 0, 20, 2, true}, RouterCase{129, 37, 0, 5, 1, false},
        RouterCase{5, 300, 160, 256, 3, true}, RouterCase{6, 100, 0, 3, 0, true},
        RouterCase{3, 64, 0, 1024, 0, false}}) {
    expect_router_logits(c);
  }
}

}  // namespace moepp::simt_test
