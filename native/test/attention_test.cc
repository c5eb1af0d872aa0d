#include <atomic>
#include <thread>

#include "backends.h"
#include "paged_step.h"
#include "reference.h"

namespace moepp::test {

struct AttentionCase {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
  float magnitude = 1.0f;  // of q: large ones make the softmax sharp
  int32_t window = 0;
  int64_t value_d = 0;  // 0: d

  int64_t values() const { return value_d > 0 ? value_d : d; }
  // The first position that a token of the step sees.
  int64_t first_seen(const SequenceSpec& s) const {
    return window > 0 && s.before + 1 > window ? s.before + 1 - window : 0;
  }
};

// Pages that no token may see lie nowhere: an access to one ends the test.
constexpr int32_t kNoPage = 1 << 24;

struct AttentionData {
  AttentionCase c;
  PagedStep step;
  KvView kv;
  Guarded<unsigned char> cache;
  Guarded<float> q;

  // Keys and values of positions that no token may see stay poison, which is NaN, and pages of such
  // alone lie nowhere.
  AttentionData(const AttentionCase& c, DType dtype)
      : c(c),
        step(c.sequences, c.page_size),
        kv{nullptr, dtype, 2, step.pages, c.page_size, c.hkv, c.d, c.values()},
        cache(cache_elements(kv) * dtype_size(dtype)),
        q(filled(step.tokens * c.hq * c.d, 1, c.magnitude)) {
    kv.data = cache.data();
    std::vector<float> values(static_cast<size_t>(c.d + c.values()));
    uint32_t seed = 2;
    for (size_t b = 0; b < c.sequences.size(); b++) {
      int32_t* pages = step.page_table.data() + b * static_cast<size_t>(step.columns);
      const int64_t first = c.first_seen(c.sequences[b]);
      for (int64_t i = 0; i < first / c.page_size; i++) pages[i] = kNoPage;
      for (int64_t p = first; p < c.sequences[b].before + c.sequences[b].tokens; p++) {
        for (int64_t head = 0; head < c.hkv; head++) {
          fill(values.data(), static_cast<int64_t>(values.size()), seed++);
          const int64_t page = pages[p / c.page_size], s = p % c.page_size;
          for (int64_t i = 0; i < c.d; i++) {
            set(cpu::kv_keys(kv, 1, page, head) + cpu::kv_key(kv, s, i),
                values[static_cast<size_t>(i)]);
          }
          for (int64_t i = 0; i < c.values(); i++) {
            set(cpu::kv_values(kv, 1, page, head) + cpu::kv_value(kv, s, i),
                values[static_cast<size_t>(c.d + i)]);
          }
        }
      }
    }
  }

  void set(int64_t index, float value) {
    if (kv.dtype == DType::kF32) {
      static_cast<float*>(kv.data)[index] = value;
    } else {
      static_cast<uint16_t*>(kv.data)[index] = f32_to_bf16(value);
    }
  }

  // Tokens [first, first + count) of sequence b alone, or of all with b < 0; what the reference
  // says is wrong.
  std::string run(const Backend& backend, Guarded<float>& out, int64_t b, int64_t first,
                  int64_t count) {
    int32_t alone[2] = {0, static_cast<int32_t>(count)};
    const Tensor qt = rows_of(whole(q, {step.tokens, c.hq, c.d}), first, count),
                 pt = rows_of(step.positions_tensor(), first, count);
    const Tensor st = b < 0 ? step.starts_tensor() : tensor(alone, DType::kI32, {2});
    const Tensor mt = b < 0 ? step.page_table_tensor() : rows_of(step.page_table_tensor(), b, 1);
    Tensor ot = whole(out, {count, c.hq * c.values()});
    const AttentionArgs args = {
        &qt, &pt, &st, &mt, &kv, &ot, 1, 1.0f / std::sqrt(static_cast<float>(c.d)), c.window};
    backend.isa.kernels->attention(args, backend.pool);
    expect_intact(backend.name, out);
    return check_attention(args, all(count), cpu_attention_errors(backend.isa, kv.dtype));
  }
};

static void run_attention(const Backend& backend, const AttentionCase& c, DType dtype) {
  AttentionData data(c, dtype);
  const int64_t row = c.hq * c.values();
  Guarded<float> out(data.step.tokens * row), one(row);
  const std::string label = backend.name + " D " + std::to_string(c.d) + ", " +
                            std::to_string(c.values()) + " S " + std::to_string(c.page_size) +
                            " window " + std::to_string(c.window) + " " + dtype_name(dtype);
  expect_no_difference(label, data.run(backend, out, -1, 0, data.step.tokens));
  for (int64_t b = 0; b < data.step.sequences(); b++) {  // alone, a token gets the same bits
    for (int64_t t = data.step.starts[static_cast<size_t>(b)];
         t < data.step.starts[static_cast<size_t>(b) + 1]; t++) {
      data.run(backend, one, b, t, 1);
      EXPECT_MESSAGE(same_bits(one.data(), out.data() + t * row, static_cast<size_t>(row) * 4),
                     label + ": a token alone differs");
    }
  }
}

static const AttentionCase kCases[] = {{1, 1, 2, 16, {{0, 1}}},
                                       {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                       {4, 2, 48, 32, {{30, 40}, {0, 17}}},
                                       {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}, {0, 1}}},
                                       {2, 2, 96, 64, {{0, 150}}},
                                       {2, 2, 96, 48, {{0, 60}, {500, 7}}, 40.0f},
                                       {8, 1, 64, 16, {{40, 6}}},
                                       {2, 1, 256, 16, {{7, 33}}},
                                       {2, 2, 128, 128, {{200, 29}}},
                                       {4, 1, 32, 32, {{1100, 3}, {600, 1}, {511, 2}}},
                                       {2, 1, 96, 80, {{0, 70}, {300, 9}}},
                                       {1, 1, 32, 112, {{95, 40}}},
                                       {32, 4, 128, 64, {{130, 1}, {60, 9}}},
                                       {16, 1, 64, 32, {{70, 1}, {0, 3}}},
                                       {1, 1, 20, 48, {{2000, 1}}, 40.0f}};

MOEPP_TEST(attention) {
  for_each_backend([&](const Backend& backend) {
    for (const AttentionCase& c : kCases) {
      for (DType dtype : {DType::kF32, DType::kBf16}) run_attention(backend, c, dtype);
    }
  });
}

// Windows of one key; smaller and larger than a page; larger than the context. Odd ones part a pair
// of bf16 keys. Some span what a chunk holds, or begin where one does.
static const AttentionCase kWindows[] = {
    {1, 1, 2, 16, {{0, 5}}, 1.0f, 1},
    {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 20}}, 1.0f, 2},
    {4, 2, 48, 32, {{30, 40}, {0, 17}}, 1.0f, 7},
    {2, 2, 96, 64, {{0, 150}}, 1.0f, 33},
    {8, 1, 64, 16, {{40, 26}}, 40.0f, 16},
    {16, 2, 128, 64, {{300, 40}, {70, 1}, {5, 2}}, 1.0f, 65},
    {2, 1, 96, 80, {{0, 70}, {300, 9}}, 1.0f, 1000},
    {4, 1, 32, 32, {{1100, 3}, {600, 1}, {511, 2}, {1535, 2}}, 1.0f, 513},
    {8, 1, 40, 48, {{2000, 1}, {2000, 30}}, 1.0f, 600},
    {1, 1, 20, 16, {{1700, 1}}, 1.0f, 40}};

// Values of a size of their own.
static const AttentionCase kValueSizes[] = {{1, 1, 2, 16, {{0, 3}}, 1.0f, 0, 4},
                                            {4, 2, 96, 32, {{30, 20}, {0, 7}}, 1.0f, 0, 64},
                                            {2, 1, 48, 16, {{90, 11}}, 1.0f, 21, 130},
                                            {8, 1, 192, 64, {{600, 1}, {70, 9}}, 1.0f, 0, 128},
                                            {2, 2, 32, 16, {{20, 5}}, 1.0f, 0, 256}};

MOEPP_TEST(attention_with_windows) {
  for_each_backend([&](const Backend& backend) {
    for (const AttentionCase& c : kWindows) {
      for (DType dtype : {DType::kF32, DType::kBf16}) run_attention(backend, c, dtype);
    }
  });
}

MOEPP_TEST(attention_with_values_of_another_size) {
  for_each_backend([&](const Backend& backend) {
    for (const AttentionCase& c : kValueSizes) {
      for (DType dtype : {DType::kF32, DType::kBf16}) run_attention(backend, c, dtype);
    }
  });
}

static void expect_same_bits_with_any_threads(const AttentionCase& c) {
  for (DType dtype : {DType::kF32, DType::kBf16}) {
    AttentionData data(c, dtype);
    for (const cpu::Isa& isa : cpu::available_isas()) {
      std::vector<float> first;
      for (int threads : {1, 2, 5, 16}) {
        ThreadPool pool(threads);
        Guarded<float> out(data.step.tokens * c.hq * c.values());
        expect_no_difference(isa.name,
                             data.run({isa, pool, isa.name}, out, -1, 0, data.step.tokens));
        if (threads == 1) first.assign(out.data(), out.data() + out.size());
        EXPECT_MESSAGE(same_bits(first.data(), out.data(), first.size() * 4), isa.name);
      }
    }
  }
}

// The number of threads, through which blocks of rows are sized, does not show in the result.
MOEPP_TEST(attention_does_not_depend_on_threads) {
  expect_same_bits_with_any_threads({2, 2, 96, 64, {{0, 100}, {70, 30}}});
}

// Long contexts of few heads are cut into chunks for several threads: the bits stay.
MOEPP_TEST(attention_split_does_not_depend_on_threads) {
  expect_same_bits_with_any_threads({6, 1, 40, 32, {{1500, 1}, {20, 1}, {700, 3}}});
  expect_same_bits_with_any_threads({8, 1, 40, 32, {{2500, 1}, {20, 1}, {700, 3}}, 1.0f, 700, 48});
}

// Another caller of the pool has its turn between any two jobs, and writes to all that a job's
// tasks may share.
MOEPP_TEST(attention_split_beside_another_caller) {
  AttentionData data({6, 1, 40, 32, {{1500, 1}, {20, 1}, {700, 3}}}, DType::kF32);
  ThreadPool pool(3);
  for (const cpu::Isa& isa : cpu::available_isas()) {
    const Backend backend = {isa, pool, isa.name};
    Guarded<float> out(data.step.tokens * 6 * 40);
    expect_no_difference(backend.name, data.run(backend, out, -1, 0, data.step.tokens));
    const std::vector<float> alone(out.data(), out.data() + out.size());
    std::atomic<bool> done{false};
    std::thread other([&] {
      while (!done)
        pool.parallel_for(
            1, [&](int64_t, int) { std::memset(pool.job_scratch(), 0x7f, size_t{1} << 20); });
    });
    int wrong = 0;
    for (int i = 0; i < 50; i++) {
      const std::string text = data.run(backend, out, -1, 0, data.step.tokens);
      wrong += text.empty() && same_bits(alone.data(), out.data(), alone.size() * 4) ? 0 : 1;
    }
    done = true;
    other.join();
    EXPECT_MESSAGE(wrong == 0, backend.name + ": " + std::to_string(wrong) + " of 50 differ");
  }
}

// A NaN in a key that a token sees makes that token NaN, and no other.
MOEPP_TEST(attention_of_nan) {
  for_each_backend([](const Backend& backend) {
    for (DType dtype : {DType::kF32, DType::kBf16}) {
      AttentionData data({1, 1, 32, 16, {{0, 24}, {0, 1}}}, dtype);
      data.set(cpu::kv_keys(data.kv, 1, data.step.page_table[1], 0) + cpu::kv_key(data.kv, 4, 0),
               NAN);  // position 20
      Guarded<float> out(25 * 32);
      expect_no_difference(backend.name, data.run(backend, out, -1, 0, 25));
      EXPECT_MESSAGE(
          !std::isnan(out[19 * 32]) && std::isnan(out[20 * 32]) && !std::isnan(out[24 * 32]),
          backend.name);
    }
  });
}

// Likewise in a value, though in bf16 it lies beside the last one that the token before sees.
MOEPP_TEST(attention_of_nan_beside_a_value) {
  for_each_backend([](const Backend& backend) {
    for (DType dtype : {DType::kF32, DType::kBf16}) {
      AttentionData data({2, 1, 40, 16, {{0, 24}}}, dtype);
      data.set(
          cpu::kv_values(data.kv, 1, data.step.page_table[1], 0) + cpu::kv_value(data.kv, 5, 39),
          NAN);  // position 21
      Guarded<float> out(24 * 80);
      expect_no_difference(backend.name, data.run(backend, out, -1, 0, 24));
      EXPECT_MESSAGE(!std::isnan(out[20 * 80 + 39]) && std::isnan(out[21 * 80 + 39]) &&
                         !std::isnan(out[21 * 80 + 38]),
                     backend.name);
    }
  });
}

// Keys and values before a token's window may be anything. They may share a page with the first
// that it sees, and in bf16 a pair.
MOEPP_TEST(attention_of_nan_before_a_window) {
  for_each_backend([](const Backend& backend) {
    for (DType dtype : {DType::kF32, DType::kBf16}) {
      for (const bool value : {false, true}) {
        AttentionData data({2, 1, 40, 16, {{0, 30}}, 1.0f, 6}, dtype);
        const int64_t page = data.step.page_table[1];  // position 20
        data.set(value ? cpu::kv_values(data.kv, 1, page, 0) + cpu::kv_value(data.kv, 4, 39)
                       : cpu::kv_keys(data.kv, 1, page, 0) + cpu::kv_key(data.kv, 4, 39),
                 NAN);
        Guarded<float> out(30 * 80);
        expect_no_difference(backend.name, data.run(backend, out, -1, 0, 30));
        for (int64_t t = 0; t < 30; t++) {
          EXPECT_MESSAGE(std::isnan(out[t * 80 + 39]) == (t >= 20 && t < 26),
                         backend.name + ": token " + std::to_string(t));
        }
      }
    }
  });
}

}  // namespace moepp::test
