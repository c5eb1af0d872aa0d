// Several callers of one pool, as several models are: random ops at the same time give the bits
// that each gives alone.
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "compare.h"
#include "cpu/isa/isa.h"
#include "host/thread_pool.h"
#include "test.h"

#include "weights/panels.h"
#include "paged_step.h"
#include "reference_gemm.h"

namespace moepp::test {

using cpu::Isa;

// An op with inputs of its own.
struct CalledOp {
  std::string name;
  int64_t results = 0;
  std::function<void(const Isa&, ThreadPool&, float* results)> run;
};

static int64_t pick(std::mt19937& random, std::initializer_list<int64_t> of) {
  return of.begin()[random() % of.size()];
}

static GemmKind pick_kind(std::mt19937& random) {
  return kGemmKinds[random() % (sizeof kGemmKinds / sizeof *kGemmKinds)];
}

template <class T>
static std::shared_ptr<std::vector<T>> shared(int64_t n) {
  return std::make_shared<std::vector<T>>(static_cast<size_t>(n));
}

static std::shared_ptr<std::vector<float>> shared_values(std::mt19937& random, int64_t n) {
  auto values = shared<float>(n);
  fill(values->data(), n, static_cast<uint32_t>(random()));
  return values;
}

static std::shared_ptr<std::vector<char>> shared_panels(std::mt19937& random, DType dtype,
                                                        Layout layout, int64_t groups, int64_t rows,
                                                        int64_t k) {
  auto panels = shared<char>(groups * panel_count(layout, rows) * panel_bytes(dtype, k));
  fill_panels(panels->data(), dtype, layout, groups, rows, k, static_cast<uint32_t>(random()),
              1.0f);
  return panels;
}

static CalledOp random_linear(std::mt19937& random) {
  const GemmKind kind = pick_kind(random);
  const int64_t tokens = pick(random, {1, 2, 7, 9, 33, 200}),
                k = pick(random, {1, 31, 64, 129, 300});
  const int64_t outputs = pick(random, {1, 33, 161, 400});
  const auto x = shared_values(random, tokens * k);
  const auto weight = shared_panels(random, kind.dtype, Layout::kMatrix, 1, outputs, k);
  return {"linear " + kind.name() + " T=" + std::to_string(tokens) + " I=" + std::to_string(k) +
              " O=" + std::to_string(outputs),
          tokens * outputs, [=](const Isa& isa, ThreadPool& pool, float* results) {
            const Tensor xt = tensor(x->data(), DType::kF32, {tokens, k});
            const Tensor wt = tensor(weight->data(), kind.dtype, {outputs, k}, Layout::kMatrix);
            Tensor ot = tensor(results, DType::kF32, {tokens, outputs});
            isa.kernels->linear({&xt, &wt, &ot, Activation::kNone, kind.may_round_x}, pool);
          }};
}

static CalledOp random_grouped_gemm(std::mt19937& random) {
  const GemmKind kind = pick_kind(random);
  const int64_t tokens = pick(random, {1, 5, 40, 300}), experts = pick(random, {1, 3, 16}),
                k = pick(random, {31, 64, 130});
  const int64_t columns = pick(random, {1, 17, 70});
  const auto x = shared_values(random, tokens * k);
  const auto weight = shared_panels(random, kind.dtype, Layout::kGateUp, experts, 2 * columns, k);
  const auto offsets = shared<int32_t>(experts + 1), order = shared<int32_t>(tokens);
  for (int64_t t = 0; t < tokens; t++) {  // token t goes to expert t * experts / tokens
    (*order)[static_cast<size_t>(t)] = static_cast<int32_t>(t);
    for (int64_t e = t * experts / tokens; e < experts; e++)
      (*offsets)[static_cast<size_t>(e + 1)]++;
  }
  return {"grouped_gemm " + kind.name() + " T=" + std::to_string(tokens) +
              " N=" + std::to_string(experts),
          tokens * columns, [=](const Isa& isa, ThreadPool& pool, float* results) {
            const Tensor xt = tensor(x->data(), DType::kF32, {tokens, k});
            const Tensor offsets_t = tensor(offsets->data(), DType::kI32, {experts + 1});
            const Tensor order_t = tensor(order->data(), DType::kI32, {tokens, 1});
            const Tensor wt =
                tensor(weight->data(), kind.dtype, {experts, 2 * columns, k}, Layout::kGateUp);
            Tensor ot = tensor(results, DType::kF32, {tokens, 1, columns});
            isa.kernels->grouped_gemm(
                {&xt, &offsets_t, &order_t, &wt, &ot, 2.0f, Activation::kSwiglu, kind.may_round_x},
                pool);
          }};
}

// Contexts on either side of what is shared out among threads.
static CalledOp random_attention(std::mt19937& random) {
  const DType dtype = random() % 2 == 0 ? DType::kF32 : DType::kBf16;
  const int64_t kv_heads = pick(random, {1, 2}), heads = kv_heads * pick(random, {1, 4}),
                d = pick(random, {6, 40, 96});
  std::vector<SequenceSpec> sequences;
  for (int64_t i = pick(random, {1, 3}); i > 0; i--) {
    sequences.push_back({pick(random, {0, 63, 511, 512, 900, 1500}), pick(random, {1, 1, 7})});
  }
  const auto step = std::make_shared<PagedStep>(sequences, 64);
  const KvView shape = {nullptr, dtype, 1, step->pages, 64, kv_heads, d, d};
  const auto values = shared_values(random, cache_elements(shape));
  const auto halves = shared<uint16_t>(cache_elements(shape));
  for (size_t i = 0; i < halves->size(); i++) (*halves)[i] = f32_to_bf16((*values)[i]);
  const int64_t tokens = step->tokens;
  const auto q = shared_values(random, tokens * heads * d);
  return {std::string("attention ") + dtype_name(dtype) + " T=" + std::to_string(tokens) +
              " D=" + std::to_string(d),
          tokens * heads * d, [=](const Isa& isa, ThreadPool& pool, float* results) {
            KvView kv = shape;
            kv.data = dtype == DType::kF32 ? static_cast<void*>(values->data()) : halves->data();
            const Tensor qt = tensor(q->data(), DType::kF32, {tokens, heads, d});
            const Tensor pt = step->positions_tensor(), st = step->starts_tensor(),
                         mt = step->page_table_tensor();
            Tensor ot = tensor(results, DType::kF32, {tokens, heads, d});
            isa.kernels->attention({&qt, &pt, &st, &mt, &kv, &ot, 0, 0.2f}, pool);
          }};
}

// The work of one caller, and its results alone.
struct Caller {
  const Isa& isa;
  std::vector<CalledOp> ops;
  std::vector<std::vector<float>> expected;

  Caller(const Isa& isa, std::mt19937& random) : isa(isa) {
    ThreadPool alone(1);
    for (int i = 0; i < 6; i++) {
      ops.push_back(i % 3 == 0   ? random_linear(random)
                    : i % 3 == 1 ? random_grouped_gemm(random)
                                 : random_attention(random));
      expected.emplace_back(static_cast<size_t>(ops.back().results));
      ops.back().run(isa, alone, expected.back().data());
    }
  }

  // The first op that gives something else, or nothing.
  std::string run(ThreadPool& pool, int rounds) const {
    for (size_t i = 0; i < ops.size() * static_cast<size_t>(rounds); i++) {
      const size_t at = i % ops.size();
      std::vector<float> results(expected[at].size());
      ops[at].run(isa, pool, results.data());
      if (!same_bits(results.data(), expected[at].data(), results.size() * 4))
        return isa.name + (" " + ops[at].name);
    }
    return {};
  }
};

MOEPP_TEST(thread_pool_serves_callers_of_any_op) {
  const std::vector<Isa>& isas = cpu::available_isas();
  for (uint32_t seed = 1; seed <= 8; seed++) {
    std::mt19937 random(seed);
    ThreadPool pool(static_cast<int>(pick(random, {2, 3, 5, 16})));
    std::vector<Caller> callers;
    for (int64_t i = pick(random, {2, 3}); i > 0; i--)
      callers.emplace_back(isas[random() % isas.size()], random);
    std::vector<std::string> wrong(callers.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < callers.size(); i++) {
      threads.emplace_back([&, i] { wrong[i] = callers[i].run(pool, 6); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& text : wrong)
      EXPECT_MESSAGE(text.empty(), "seed " + std::to_string(seed) + ": " + text);
  }
}

}  // namespace moepp::test
