// The fields of an op's arguments, one after another, over its visit() (ops.h).
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "kernels.h"

namespace moepp::test {

enum class Role { kIn, kWeight, kOut };

// visit() does not tell whether an op reads the KV cache or writes it.
template <class Args>
constexpr bool kWritesCache =
    std::is_same<Args, RopeStoreArgs>::value || std::is_same<Args, LinearRopeStoreArgs>::value;

struct Field {
  const char* name;
  Role role;
  std::string shape;  // letters, as visit() names them
  bool or_bf16 = false;
};

// Calls each(field, tensor) for every tensor that is there, and cache(view) for a KV cache. Both
// may put another in its place.
template <class Each, class OfCache>
class FieldVisitor {
 public:
  FieldVisitor(const Each& each, const OfCache& cache) : each_(each), cache_(cache) {}

  void in(const char* name, const Tensor*& t, const char* shape, FieldType type) {
    visit({name, Role::kIn, shape, type.or_bf16}, t);
  }
  void optional_in(const char* name, const Tensor*& t, const char* shape, FieldType type) {
    visit({name, Role::kIn, shape, type.or_bf16}, t);
  }
  void weight(const char* name, const Tensor*& t, const char* shape, Layout) {
    visit({name, Role::kWeight, shape}, t);
  }
  void optional_weight(const char* name, const Tensor*& t, const char* shape, Layout) {
    visit({name, Role::kWeight, shape}, t);
  }
  void table(const char* name, const Tensor*& t, const char* shape) {
    visit({name, Role::kWeight, shape}, t);
  }
  void out(const char* name, Tensor*& t, const char* shape, FieldType type) {
    if (t != nullptr) each_(Field{name, Role::kOut, shape, type.or_bf16}, t);
  }
  void optional_out(const char* name, Tensor*& t, const char* shape, FieldType type) {
    out(name, t, shape, type);
  }
  void cache(const char*, const KvView*& view) { cache_(view); }
  template <class T>
  void attribute(const char*, T&) {}
  void may_round(bool&) {}
  void ranks(Ranks&) {}

 private:
  void visit(const Field& field, const Tensor*& t) {
    if (t == nullptr) return;
    auto* tensor = const_cast<Tensor*>(t);
    each_(field, tensor);
    t = tensor;
  }
  const Each& each_;
  const OfCache& cache_;
};

template <class Args, class Each, class OfCache>
void each_field(Args& args, const Each& each, const OfCache& cache) {
  FieldVisitor<Each, OfCache> visitor(each, cache);
  args.visit(visitor);
}
template <class Args, class Each>
void each_field(Args& args, const Each& each) {
  each_field(args, each, [](const KvView*&) {});
}

// Calls each(args) for each op that a fused op is made of, or for the op itself.
template <class Args, class Each>
void each_op(Args& args, const Each& each) {
  if constexpr (kIsFused<Args>) {
    args.parts([&](auto& part, int) { each(part); });
  } else {
    each(args);
  }
}

// The kernel of an op in a device's table.
#define MOEPP_KERNEL_OF(name, Args) \
  inline auto kernel_of(const Kernels& kernels, const Args&) { return kernels.name; }
MOEPP_OPS(MOEPP_KERNEL_OF, MOEPP_KERNEL_OF)
#undef MOEPP_KERNEL_OF

}  // namespace moepp::test
