#include "backends.h"
#include "paged_step.h"
#include "reference.h"

namespace moepp::test {

struct RopeStoreCase {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
};

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
  const int64_t t = step.tokens, width = (c.hq + 2 * c.hkv) * c.d;
  KvView kv = {nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d};
  const int64_t size = dtype_size(dtype);
  Guarded<unsigned char> cache(cache_elements(kv) * size);
  kv.data = cache.data();
  const std::vector<unsigned char> before(cache.data(), cache.data() + cache.size());
  Guarded<float> qkv = filled(t * width, 1), cosine = filled(t * (c.d / 2), 2),
                 sine = filled(t * (c.d / 2), 3), q(t * c.hq * c.d);
  const Tensor xt = whole(qkv, {t, width}), ct = whole(cosine, {t, c.d / 2}),
               st = whole(sine, {t, c.d / 2});
  const Tensor pt = step.positions_tensor(), bt = step.starts_tensor(),
               mt = step.page_table_tensor();
  Tensor qt = whole(q, {t, c.hq, c.d});
  const RopeStoreArgs args = {&xt, &ct, &st, &pt, &bt, &mt, &kv, &qt, 1};
  const std::string label = backend.name + " D " + std::to_string(c.d) + " S " +
                            std::to_string(c.page_size) + " " + dtype_name(dtype);
  backend.isa.kernels->rope_store(args, backend.pool);
  expect_no_difference(label, check_rope_store(args, all(t)));
  expect_intact(label, q);
  expect_intact(label, cache);
  // Poison is a NaN, which no token's element is: each element written has changed.
  EXPECT_MESSAGE(changed(cache, before, size) == t * c.hkv * 2 * c.d,
                 label + ": touched another token's element");
  std::vector<unsigned char> bytes(cache.data(), cache.data() + cache.size());
  const auto* queries = reinterpret_cast<const unsigned char*>(q.data());
  bytes.insert(bytes.end(), queries, queries + 4 * q.size());
  return bytes;
}

static const RopeStoreCase kCases[] = {{1, 1, 2, 16, {{0, 1}}},
                                       {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                       {4, 2, 48, 32, {{30, 40}, {0, 17}}},
                                       {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}}},
                                       {2, 1, 256, 16, {{7, 33}}}};

MOEPP_TEST(rope_store) {
  for_each_backend([&](const Backend& backend) {
    for (const RopeStoreCase& c : kCases) {
      for (DType dtype : {DType::kF32, DType::kBf16}) run_rope_store(backend, c, dtype);
    }
  });
}

MOEPP_TEST(rope_store_has_the_same_bits_with_many_threads) {
  ThreadPool one(1), five(5), sixteen(16);
  for (const cpu::Isa& isa : cpu::available_isas()) {
    for (const RopeStoreCase& c : kCases) {
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
