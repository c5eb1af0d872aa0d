#include "cuda/kv_layout.cuh"
#include "op_test.h"
#include "paged_step.h"
#include "shared_cache.h"

namespace moepp::simt_test {

struct RopeStoreCase {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
};

static void expect_rope_store(const RopeStoreCase& c, DType dtype) {
  SharedStep step(c.sequences, c.page_size);
  const int64_t t = step.tokens, width = (c.hq + 2 * c.hkv) * c.d;
  SharedCache cache({nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d});
  Shared<float> qkv = filled(t * width, 1), cosine = filled(t * (c.d / 2), 2),
                sine = filled(t * (c.d / 2), 3), q = unwritten(t * c.hq * c.d);
  const Tensor xt = whole(qkv, {t, width}), ct = whole(cosine, {t, c.d / 2}),
               st = whole(sine, {t, c.d / 2});
  const Tensor pt = step.positions_tensor(), bt = step.starts_tensor(),
               mt = step.page_table_tensor();
  Tensor qt = whole(q, {t, c.hq, c.d});
  const std::string label =
      "D " + std::to_string(c.d) + " S " + std::to_string(c.page_size) + " " + dtype_name(dtype);
  run_op(cuda::rope_store, {&xt, &ct, &st, &pt, &bt, &mt, &cache.device, &qt, 1}, label);
  // Poison is a NaN, which no token's element is: each element written has changed, and nothing
  // else has.
  EXPECT_MESSAGE(cache.written() == t * c.hkv * 2 * c.d,
                 label + ": touched another token's element");
  cache.copy_to_reference();
  expect_no_difference(
      label, check_rope_store({&xt, &ct, &st, &pt, &bt, &mt, &cache.reference, &qt, 1}, all(t)));
}

MOEPP_TEST(simt_rope_store) {
  const RopeStoreCase cases[] = {{1, 1, 2, 16, {{0, 1}}},
                                 {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                 {4, 2, 48, 32, {{30, 12}, {0, 7}}},
                                 {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}}},
                                 {2, 1, 256, 16, {{7, 13}}}};
  for (const RopeStoreCase& c : cases) {
    for (DType dtype : {DType::kF32, DType::kBf16}) expect_rope_store(c, dtype);
  }
}

}  // namespace moepp::simt_test
