#include "cuda/kv_layout.cuh"
#include "kernel_test.h"
#include "rope_cases.h"
#include "shared_cache.h"

namespace moepp::simt_test {

static void expect_rope_store(const RopeStoreCase& c, DType dtype) {
  SharedStep step(c.sequences, c.page_size);
  const int64_t t = step.tokens, pairs = c.rotated();
  SharedCache cache({nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d, c.values()});
  Shared<float> qkv = filled(t * c.columns(), 1), cosine = filled(t * pairs, 2),
                sine = filled(t * pairs, 3), q_norm = filled(c.d, 4), k_norm = filled(c.d, 5),
                q = unwritten(t * c.hq * c.d);
  const Tensor xt = whole(qkv, {t, c.columns()}), ct = whole(cosine, {t, pairs}),
               st = whole(sine, {t, pairs}), qn = whole(q_norm, {c.d}), kn = whole(k_norm, {c.d});
  const Tensor pt = step.positions_tensor(), bt = step.starts_tensor(),
               mt = step.page_table_tensor();
  Tensor qt = whole(q, {t, c.hq, c.d});
  const std::string label = c.name() + " " + dtype_name(dtype);
  RopeStoreArgs args = {&xt, &ct, &st, &pt, &bt, &mt, &cache.device, &qt, 1};
  if (c.normed) args.q_norm = &qn, args.k_norm = &kn, args.eps = 1e-3f;
  args.interleaved = c.interleaved;
  run_op(cuda::rope_store, args, label);
  // Poison is a NaN, which no token's element is: each element written has changed, and nothing
  // else has.
  EXPECT_MESSAGE(cache.written() == t * c.hkv * (c.d + c.values()),
                 label + ": touched another token's element");
  cache.copy_to_reference();
  args.cache = &cache.reference;
  expect_no_difference(label, check_rope_store(args, all(t)));
}

MOEPP_TEST(simt_rope_store) {
  for (const RopeStoreCase& c : rope_store_cases()) {
    for (DType dtype : {DType::kF32, DType::kBf16}) expect_rope_store(c, dtype);
  }
}

}  // namespace moepp::simt_test
