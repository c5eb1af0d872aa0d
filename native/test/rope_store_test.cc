#include "backends.h"
#include "paged_step.h"
#include "reference.h"
#include "rope_cases.h"

namespace moepp::test {

// The bytes of the cache that no token of the step owns must stay as they were.
static int64_t changed(const Guarded<unsigned char>& cache,
                       const std::vector<unsigned char>& before, int64_t size) {
  int64_t count = 0;
  for (size_t i = 0; i < before.size(); i += static_cast<size_t>(size)) {
    count += same_bits(cache.data() + i, before.data() + i, static_cast<size_t>(size)) ? 0 : 1;
  }
  return count;
}

// The cache and the queries that come of it.
static std::vector<unsigned char> run_rope_store(const Backend& backend, const RopeStoreCase& c,
                                                 DType dtype) {
  PagedStep step(c.sequences, c.page_size);
  const int64_t t = step.tokens, pairs = c.rotated();
  KvView kv = {nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d, c.values()};
  const int64_t size = dtype_size(dtype);
  Guarded<unsigned char> cache(cache_elements(kv) * size);
  kv.data = cache.data();
  const std::vector<unsigned char> before(cache.data(), cache.data() + cache.size());
  Guarded<float> qkv = filled(t * c.columns(), 1), cosine = filled(t * pairs, 2),
                 sine = filled(t * pairs, 3), q_norm = filled(c.d, 4), k_norm = filled(c.d, 5),
                 q(t * c.hq * c.d);
  const Tensor xt = whole(qkv, {t, c.columns()}), ct = whole(cosine, {t, pairs}),
               st = whole(sine, {t, pairs}), qn = whole(q_norm, {c.d}), kn = whole(k_norm, {c.d});
  const Tensor pt = step.positions_tensor(), bt = step.starts_tensor(),
               mt = step.page_table_tensor();
  Tensor qt = whole(q, {t, c.hq, c.d});
  RopeStoreArgs args = {&xt, &ct, &st, &pt, &bt, &mt, &kv, &qt, 1};
  if (c.normed) args.q_norm = &qn, args.k_norm = &kn, args.eps = 1e-3f;
  args.interleaved = c.interleaved;
  const std::string label = backend.name + " " + c.name() + " " + dtype_name(dtype);
  backend.isa.kernels->rope_store(args, backend.pool);
  expect_no_difference(label, check_rope_store(args, all(t)));
  expect_intact(label, q);
  expect_intact(label, cache);
  // Poison is a NaN, which no token's element is: each element written has changed.
  EXPECT_MESSAGE(changed(cache, before, size) == t * c.hkv * (c.d + c.values()),
                 label + ": touched another token's element");
  std::vector<unsigned char> bytes(cache.data(), cache.data() + cache.size());
  const auto* queries = reinterpret_cast<const unsigned char*>(q.data());
  bytes.insert(bytes.end(), queries, queries + 4 * q.size());
  return bytes;
}

MOEPP_TEST(rope_store) {
  for_each_backend([&](const Backend& backend) {
    for (const RopeStoreCase& c : rope_store_cases()) {
      for (DType dtype : {DType::kF32, DType::kBf16}) run_rope_store(backend, c, dtype);
    }
  });
}

MOEPP_TEST(rope_store_has_the_same_bits_with_many_threads) {
  ThreadPool one(1), five(5), sixteen(16);
  for (const cpu::Isa& isa : cpu::available_isas()) {
    for (const RopeStoreCase& c : rope_store_cases()) {
      for (DType dtype : {DType::kF32, DType::kBf16}) {
        const std::vector<unsigned char> expected = run_rope_store({isa, one, isa.name}, c, dtype);
        for (ThreadPool* pool : {&five, &sixteen}) {
          EXPECT_MESSAGE(
              run_rope_store({isa, *pool, isa.name}, c, dtype) == expected,
              std::string(isa.name) + ": " + std::to_string(pool->threads()) + " threads differ");
        }
      }
    }
  }
}

}  // namespace moepp::test
