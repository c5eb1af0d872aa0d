// The tests of ops. Each is written once, over an Arena, and runs on every instruction set, on the
// emulated GPU and on a real one:
//
//   MOEPP_OP_TEST(rms_norm) {  // OpTest& on
//     for (const Case& c : kCases) {
//       Data data(on, c);
//       on.start("H " + std::to_string(c.h));
//       on.expect(data.args(), [&](const RmsNormArgs& a) { return check(a, all(c.t)); });
//     }
//   }
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "arrays.h"
#include "cpu/isa/isa.h"
#include "host/thread_pool.h"
#include "reference.h"
#include "test.h"

namespace moepp::test {

// A device and, of a CPU, its instruction set.
struct Target {
  std::string name;  // "avx2", "sm_90a"
  std::shared_ptr<Device> device;
  const cpu::Isa* isa = nullptr;
};

// One of the kernels that a device has for an op, or the one that it chooses. Returns the failure
// of the launch.
template <class Args>
struct Way {
  std::string name;  // "decode of 90"; "" of the only one
  std::function<Status(Device&, const Args&)> run;
  Inputs inputs = Inputs::kQuantised;  // of a product
  bool reads_bf16 = false;             // its x may be bf16
  bool same_bits = false;              // as the way before, whose checks will do
  bool rows_alone = true;              // a row alone takes the same kernel
};

// The kernel that the device chooses.
template <class Args>
Way<Args> own_way() {
  return {"", [](Device& device, const Args& args) {
            kernel_of(device.kernels(), args)(args, device.queue());
            return device.launched();
          }};
}

// The ways to run an op on a GPU, and the emulation's schedules: simt/gpu_ways.cu or absent.cc.
namespace gpu {
extern const bool kHere;   // this program has CUDA kernels
extern const bool kAlone;  // and tests nothing else
// The GPUs of these compute capabilities that there are, or the newest without any.
std::vector<Target> targets(std::initializer_list<int> capabilities);
// Each way launches as on a card with few multiprocessors.
std::vector<Way<LinearArgs>> ways(Device& device, const LinearArgs& args, int multiprocessors = 2);
std::vector<Way<GroupedGemmArgs>> ways(Device& device, const GroupedGemmArgs& args,
                                       int multiprocessors = 2);
std::vector<Way<HeadLinearArgs>> ways(Device& device, const HeadLinearArgs& args);
std::vector<Way<AttentionArgs>> ways(Device& device, const AttentionArgs& args);
std::vector<Way<RouterLogitsArgs>> ways(Device& device, const RouterLogitsArgs& args);
std::vector<Way<NormRouteTopKArgs>> ways(Device& device, const NormRouteTopKArgs& args);
std::vector<Way<TopLogitsArgs>> ways(Device& device, const TopLogitsArgs& args);
template <class Args>
std::vector<Way<Args>> ways(Device&, const Args&) {
  return {own_way<Args>()};
}
Inputs chosen_inputs(Device& device, const LinearArgs& args);  // of the kernel that it chooses
Inputs chosen_inputs(Device& device, const GroupedGemmArgs& args);
Inputs chosen_inputs(Device& device, const HeadLinearArgs& args);
// Orders of threads and of copies that the emulation knows. A GPU has one, its own.
int schedules();
void use_schedule(int number);
}  // namespace gpu

class OpTest : public Arena {
 public:
  explicit OpTest(const Target& target)
      : Arena(target.device, Guard::kMargins), target_(target), label_(target.name) {}

  bool on_gpu() const { return target_.isa == nullptr; }
  const cpu::Isa& isa() const { return *target_.isa; }
  // Large cases take the emulation too long.
  bool emulated() const { return on_gpu() && gpu::kAlone; }
  // An emulated GPU under a sanitizer, which looks at accesses: tests of results alone are left
  // out.
  bool sanitized() const { return on_gpu() && !kRepeats; }
  // The cases of a long table for products or keys of that type.
  template <class Table>
  auto cases(const Table& table, DType dtype) const {
    std::vector<std::decay_t<decltype(*std::begin(table))>> cases;
    const size_t stride = on_gpu() ? kStride : kCpuStride;
    for (size_t i = static_cast<size_t>(dtype) % stride; i < std::size(table); i += stride)
      cases.push_back(table[i]);
    return cases;
  }

  // Names the runs from here on, for failures.
  void start(const std::string& what) { label_ = target_.name + " " + what; }
  // Fails unless the text is empty, or the condition holds.
  void report(const std::string& text) const;
  void require(bool condition, const std::string& otherwise) const {
    if (!condition) report(otherwise);
  }

  int next_schedule() { return schedule_ = (schedule_ + 1) % gpu::schedules(); }
  template <class Args>
  std::vector<Way<Args>> ways(const Args& args) const {
    return on_gpu() ? gpu::ways(device(), args) : std::vector<Way<Args>>{own_way<Args>()};
  }

  // Runs the op to its end. Nothing outside its arguments is touched.
  template <class Args>
  void run(const Args& args, const Way<Args>& way) {
    run_step(device(), [&] { return way.run(device(), args); });
    for (const Block* block : blocks())
      require(block->margins_intact(), "touched memory beside its arguments");
  }
  template <class Args>
  void run(const Args& args) {
    run(args, own_way<Args>());
  }

  // Each way to run the op gives results that check(args on the host) takes. They have the same
  // bits with any number of threads, and in another schedule of the emulation. With bf16 for f32,
  // where the contract has both, they are the same but for rounding. The outputs of the last way
  // stay.
  template <class Args, class Check>
  void expect(const Args& args, const Check& check) {
    const int first = schedule_;
    std::vector<Output> before;
    for (const Way<Args>& way : ways(args)) {
      expect(args, way,
             [&](const Args& a) -> std::string { return way.same_bits ? "" : check(a); });
      std::vector<Output> now = outputs(args);
      if (way.same_bits) expect_same(before, now, way.name + " differs from the way before");
      before = std::move(now);
    }
    schedule_ = first + 1;  // so that each way meets every schedule
  }
  template <class Args, class Check>
  void expect(const Args& args, const Way<Args>& way, const Check& check) {
    const Named named(this, way.name);
    poison(args);
    run(args, way);
    report(check(on_host(args)));
    if (kFewCases) return;
    if (!on_gpu()) return expect_same_with_threads(args);
    expect_bf16_inputs(args, way);
    if (kRepeats) expect_bf16_outputs(args, way);
  }

  // One way, in every schedule of the emulation.
  template <class Args, class Check>
  void expect_in_every_schedule(const Args& args, const Way<Args>& way, const Check& check) {
    for (int number = 0; number < (kRepeats ? gpu::schedules() : 1); number++) {
      const Named named(this, way.name + ", schedule " + std::to_string(number));
      schedule_ = number + gpu::schedules() - 1;
      run_again(args, args, way);
      report(check(on_host(args)));
      expect_bf16_inputs(args, way);
    }
  }

  // Each of these rows alone gives the same bits as among the others. Its arguments are those, with
  // every field [T, ...], or of another `letter`, cut to the row. The fields `joint` depend on all
  // rows. `adapt` changes what else has to be: (args, row).
  struct Alone {
    std::vector<int64_t> rows;
    char letter = 'T';
    std::set<std::string> joint = {};
  };
  template <class Args, class Adapt>
  void expect_rows_alone(const Args& args, const Alone& which, const Adapt& adapt) {
    for (const Way<Args>& way : ways(args)) {
      if (way.same_bits || !way.rows_alone || (on_gpu() && !kRepeats)) continue;
      const Named named(this, way.name);
      run(args, way);
      for (const int64_t row : which.rows) expect_row_alone(args, way, row, which, adapt);
    }
  }
  template <class Args>
  void expect_rows_alone(const Args& args, const Alone& which) {
    expect_rows_alone(args, which, [](Args&, int64_t) {});
  }

  // The bytes of what an op has written, by field. A second field of a name, of another part of a
  // fused op, is "name 2".
  struct Output {
    std::string name;
    Block* block;
    std::vector<unsigned char> bytes;
  };
  template <class Args>
  std::vector<Output> outputs(Args args) const {
    std::vector<Output> found;
    NameOfEach name_of;
    const auto add = [&](const std::string& name, const void* data) {
      Block* block = block_of(data);
      if (block != nullptr) found.push_back({name, block, block->content()});
    };
    each_field(
        args,
        [&](const Field& field, Tensor*& t) {
          if (field.role == Role::kOut) add(name_of(field), t->data);
        },
        [&](const KvView*& cache) { add("cache", cache->data); });
    return found;
  }
  template <class Args>
  void poison(Args args) {
    const auto poison_block = [&](const void* data) {
      Block* block = block_of(data);
      if (block != nullptr) block->poison();
    };
    each_field(
        args,
        [&](const Field& field, Tensor*& t) {
          if (field.role == Role::kOut) poison_block(t->data);
        },
        [&](const KvView*& cache) {
          if (kWritesCache<Args>) poison_block(cache->data);
        });
  }
  void expect_same(const std::vector<Output>& expected, const std::vector<Output>& actual,
                   const std::string& otherwise) const;

 private:
  struct NameOfEach {
    std::map<std::string, int> seen = {};
    std::string operator()(const Field& field) {
      const int number = ++seen[field.name];
      return std::string(field.name) + (number > 1 ? " " + std::to_string(number) : std::string());
    }
  };
  // The emulation runs in the next of its schedules for as long as it lives.
  struct NextSchedule {
    explicit NextSchedule(OpTest* test) { gpu::use_schedule(test->next_schedule()); }
    ~NextSchedule() { gpu::use_schedule(0); }
  };
  // Adds a way's name to the label for as long as it lives.
  struct Named {
    Named(OpTest* test, const std::string& way) : test(test), before(test->label_) {
      if (!way.empty()) test->label_ += ", " + way;
    }
    ~Named() { test->label_ = before; }
    OpTest* test;
    const std::string before;
  };

  template <class Args>
  void expect_same_with_threads(const Args& args) {
    const std::vector<Output> first = outputs(args);
    for (ThreadPool* pool : other_pools()) {
      poison(args);
      kernel_of(device().kernels(), args)(args, *pool);
      expect_same(first, outputs(args), std::to_string(pool->threads()) + " threads differ");
    }
  }

  // The arguments, with bf16 for f32 in the fields of that role that may be either, as may all
  // fields of the same memory. Inputs are those that a kernel rounds f32 to, where their rows are
  // whole units of 16 bytes.
  template <class Args>
  struct Narrowed {
    Args args;
    std::vector<std::unique_ptr<Block>> blocks;
    std::deque<Tensor> tensors;
    std::set<std::string> fields;
  };
  template <class Args>
  std::unique_ptr<Narrowed<Args>> narrowed(const Args& args, Role role);
  // The outputs of `again`, run in the next schedule; those of `args` are poison before.
  template <class Args>
  std::vector<Output> run_again(const Args& args, const Args& again, const Way<Args>& way) {
    poison(args);
    const NextSchedule schedule(this);
    run(again, way);
    return outputs(again);
  }
  template <class Args>
  void expect_bf16_outputs(const Args& args, const Way<Args>& way) {
    const std::vector<Output> first = outputs(args);
    const auto out = narrowed(args, Role::kOut);
    expect_same(with_one_nan(rounded(first, out->fields), out->fields),
                with_one_nan(run_again(args, out->args, way), out->fields),
                "in another schedule, or rounded to bf16, the output differs");
    for (const Output& output : first) output.block->write(output.bytes);
  }
  template <class Args>
  void expect_bf16_inputs(const Args& args, const Way<Args>& way) {
    const auto in = narrowed(args, Role::kIn);
    if (!way.reads_bf16 || in->fields.empty()) return;
    const std::vector<Output> first = outputs(args);
    expect_same(first, run_again(args, in->args, way), "with bf16 inputs the output differs");
  }

  template <class Args, class Adapt>
  void expect_row_alone(const Args& args, const Way<Args>& way, int64_t row, const Alone& which,
                        const Adapt& adapt);

  std::vector<unsigned char> bytes_of(const Tensor& tensor) const;  // on the device
  // The host's f32, as the block's bf16.
  void write_as_bf16(const Tensor& tensor, Block* to) const;
  static std::vector<Output> rounded(std::vector<Output> outputs,
                                     const std::set<std::string>& fields);
  // Of bf16: every NaN as the same, since conversions keep different bits of one.
  static std::vector<Output> with_one_nan(std::vector<Output> outputs,
                                          const std::set<std::string>& fields);
  // Pools of 1, 5 and 16 threads: more than processors, and no divisor of a number of panels.
  static const std::vector<ThreadPool*>& other_pools();

  const Target& target_;
  std::string label_;
  int schedule_ = 0;
};

template <class Args>
std::unique_ptr<OpTest::Narrowed<Args>> OpTest::narrowed(const Args& args, Role role) {
  auto result = std::make_unique<Narrowed<Args>>();
  result->args = args;
  std::set<const void*> f32_alone;
  each_field(result->args, [&](const Field& field, Tensor*& t) {
    if (!field.or_bf16) f32_alone.insert(t->data);
  });
  NameOfEach name_of;
  each_field(result->args, [&](const Field& field, Tensor*& t) {
    if (field.role != role) return;
    const std::string name = name_of(field);
    if (f32_alone.count(t->data) != 0 || t->dtype != DType::kF32) return;
    if (role == Role::kIn && t->shape[t->rank - 1] % 8 != 0) return;
    auto& block = *result->blocks.emplace_back(std::make_unique<Block>(*this, 2 * t->elements()));
    if (role == Role::kIn) write_as_bf16(*t, &block);
    Tensor& narrow = result->tensors.emplace_back(*t);
    narrow.dtype = DType::kBf16;
    narrow.data = block.device();
    result->fields.insert(name);
    t = &narrow;
  });
  return result;
}

template <class Args, class Adapt>
void OpTest::expect_row_alone(const Args& args, const Way<Args>& way, int64_t row,
                              const Alone& which, const Adapt& adapt) {
  std::vector<std::unique_ptr<Block>> blocks;
  std::deque<Tensor> tensors;
  std::vector<Output> expected;
  Args alone = args;
  each_field(alone, [&](const Field& field, Tensor*& t) {
    const bool is_row = field.role != Role::kWeight && field.shape[0] == which.letter;
    if (field.role != Role::kOut && !is_row) return;
    Tensor& one = tensors.emplace_back(*t);
    if (is_row) one = rows_of(*t, row, 1);
    if (field.role == Role::kOut) {
      auto& block = *blocks.emplace_back(
          std::make_unique<Block>(*this, one.elements() * dtype_size(one.dtype)));
      if (is_row && which.joint.count(field.name) == 0)
        expected.push_back({field.name, &block, bytes_of(one)});
      one.data = block.device();
    }
    t = &one;
  });
  adapt(alone, row);
  run(alone, way);
  std::vector<Output> actual;
  for (const Output& output : expected)
    actual.push_back({output.name, output.block, output.block->content()});
  expect_same(expected, actual, "row " + std::to_string(row) + " alone differs");
}

void run_on_cpus(void (*test)(OpTest&));
void run_on_gpus(std::initializer_list<int> capabilities, void (*test)(OpTest&));

struct OpTestRegistration {
  OpTestRegistration(const char* on_cpu, const char* on_gpu, const char* file, void (*cpu)(),
                     void (*gpu)()) {
    if (!gpu::kAlone) registry().push_back({on_cpu, file, cpu});
    if (gpu::kHere) registry().push_back({on_gpu, file, gpu});
  }
};

// The test of an op: `on` is an OpTest. It runs on the CPU as <name>, and as simt_<name> on GPUs of
// the compute capabilities named, or on the newest.
#define MOEPP_OP_TEST(name, ...)                                                 \
  static void name(::moepp::test::OpTest& on);                                   \
  static const ::moepp::test::OpTestRegistration name##_registration(            \
      #name, "simt_" #name, __FILE__, [] { ::moepp::test::run_on_cpus(&name); }, \
      [] { ::moepp::test::run_on_gpus({__VA_ARGS__}, &name); });                 \
  static void name(::moepp::test::OpTest& on)

}  // namespace moepp::test
