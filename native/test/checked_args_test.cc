// The relations between sizes that rope_store, attention and linear check.
#include "ops.h"
#include "paged_step.h"
#include "test.h"

namespace moepp::test {

static Tensor shaped(std::initializer_list<int64_t> shape, DType dtype = DType::kF32) {
  return tensor(nullptr, dtype, shape);
}

static void expect_fault(const std::string& actual, const std::string& part) {
  const bool right = part.empty() ? actual.empty() : actual.find(part) != std::string::npos;
  EXPECT_MESSAGE(right, "expected \"" + part + "\", got \"" + actual + "\"");
}

// The same step, q, cache and weights for each op: 4 query heads of 16, 2 heads with keys of 16 and
// values of 10.
struct CheckedStep {
  PagedStep step = PagedStep({{5, 3}}, 16);
  KvView cache = {nullptr, DType::kF32, 2, 4, 16, 2, 16, 10};
  Tensor qkv = shaped({3, 4 * 16 + 2 * 26}), cosine = shaped({3, 8}), q = shaped({3, 4, 16}),
         norm = shaped({16}), out = shaped({3, 40}), positions = step.positions_tensor(),
         starts = step.starts_tensor(), pages = step.page_table_tensor();
  RopeStoreArgs store = {&qkv, &cosine, &cosine, &positions, &starts, &pages, &cache, &q, 1};
  AttentionArgs attention = {&q, &positions, &starts, &pages, &cache, &out, 1, 0.25f};

  template <class Args>
  static std::string fault(const Args& args) {
    StepInputs inputs([](const Tensor*) { return true; });
    const std::string broken = broken_relation(args);
    return broken.empty() ? step_fault(args, inputs) : broken;
  }
};

MOEPP_TEST(rope_store_args_are_checked) {
  const auto expect = [](const char* part, auto change) {
    CheckedStep s;
    change(s);
    expect_fault(CheckedStep::fault(s.store), part);
  };
  expect("", [](CheckedStep&) {});
  expect("", [](CheckedStep& s) { s.store.q_norm = s.store.k_norm = &s.norm; });
  expect("", [](CheckedStep& s) { s.cosine.shape[1] = 3; });
  expect("the head dim 15 must be even", [](CheckedStep& s) { s.q.shape[2] = 15; });
  expect("the head dim 258 must be", [](CheckedStep& s) { s.q.shape[2] = 258; });
  expect("1 to half of the head dim 16", [](CheckedStep& s) { s.cosine.shape[1] = 9; });
  expect("1 to half of the head dim 16", [](CheckedStep& s) { s.cosine.shape[1] = 0; });
  expect("qkv must hold keys and values", [](CheckedStep& s) { s.qkv.shape[1] = 64; });
  expect("q_norm and k_norm come together", [](CheckedStep& s) { s.store.k_norm = &s.norm; });
  expect("eps must not be negative", [](CheckedStep& s) { s.store.eps = -1.0f; });
  expect("layer must not be negative", [](CheckedStep& s) { s.store.layer = -1; });
  expect("2 layers of 2 heads with keys of 16 and values of 10, which does not fit layer 2",
         [](CheckedStep& s) { s.store.layer = 2; });
  expect("qkv of 115 columns", [](CheckedStep& s) { s.qkv.shape[1]--; });
  expect("keys of 14", [](CheckedStep& s) { s.cache.key_dim = 14; });
  expect("values of 16", [](CheckedStep& s) { s.cache.value_dim = 16; });
  expect("of 3 heads", [](CheckedStep& s) { s.cache.kv_heads = 3; });
}

MOEPP_TEST(attention_args_are_checked) {
  const auto expect = [](const char* part, auto change) {
    CheckedStep s;
    change(s);
    expect_fault(CheckedStep::fault(s.attention), part);
  };
  expect("", [](CheckedStep&) {});
  expect("", [](CheckedStep& s) { s.attention.window = 1; });
  expect("window must not be negative", [](CheckedStep& s) { s.attention.window = -1; });
  expect("the head dim 7 must be even", [](CheckedStep& s) { s.q.shape[2] = 7; });
  expect("out must be [T, Hq * Dv]", [](CheckedStep& s) { s.out.shape[1] = 41; });
  expect("the values' head dim 5 must be even", [](CheckedStep& s) { s.out.shape[1] = 20; });
  expect("out of 32 columns", [](CheckedStep& s) { s.out.shape[1] = 32; });
  expect("keys of 18", [](CheckedStep& s) { s.cache.key_dim = 18; });
  expect("which does not fit layer 5", [](CheckedStep& s) { s.attention.layer = 5; });
}

MOEPP_TEST(linear_args_are_checked) {
  Tensor x = shaped({2, 4}), weight = shaped({6, 4}), out = shaped({2, 6}), bias = shaped({6});
  LinearArgs args = {&x, &weight, &out, Activation::kTanh, false, &bias};
  expect_fault(broken_relation(args), "");
  args.activation = Activation::kSwiglu;
  expect_fault(broken_relation(args), "swiglu takes no bias");
  args.bias = nullptr;
  expect_fault(broken_relation(args), "");
  args.activation = static_cast<Activation>(3);
  expect_fault(broken_relation(args), "none, tanh or swiglu");
}

MOEPP_TEST(top_logits_args_are_checked) {
  Tensor logits = shaped({2, 3}), top = shaped({2, 3}), sums = shaped({2});
  TopLogitsArgs args = {&logits, &top, nullptr, &sums};
  expect_fault(broken_relation(args), "");
  top.shape[1] = 4;
  expect_fault(broken_relation(args), "no more than there are");
  args.top_logits = nullptr;
  expect_fault(broken_relation(args), "");
  logits.shape[1] = 0;
  expect_fault(broken_relation(args), "one at least");
}

}  // namespace moepp::test
