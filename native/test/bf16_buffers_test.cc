// Buffers that a step holds as bf16: between an op and products that round it, and nowhere else.
#include <algorithm>

#include "small_model.h"
#include "test.h"
#include "wrapped_cpu.h"

namespace moepp::test {

namespace {

// The CPU's memory under kernels that do nothing. Its products round x, or only grouped ones do.
class RoundingDevice final : public WrappedCpu {
 public:
  explicit RoundingDevice(bool linear) : linear_(linear) {
#define MOEPP_KERNEL(name, Args) kernels_.name = [](const Args&, Queue&) {};
    MOEPP_OPS(MOEPP_KERNEL, MOEPP_KERNEL)
#undef MOEPP_KERNEL
  }
  const Kernels& kernels() const override {
    return kernels_;
  }
  bool reads_bf16(const LinearArgs&) const override {
    return linear_;
  }
  bool reads_bf16(const GroupedGemmArgs& args) const override {
    return args.x->shape[0] > 4;
  }

 private:
  bool linear_;
  Kernels kernels_;
};

struct Ran {
  std::vector<std::string> bf16;
  int64_t arena_bytes;
};

Ran run(const ProgramSpec& spec, bool linear, int64_t tokens,
        const std::vector<std::string>& capture = {}) {
  std::unique_ptr<Program> program;
  EXPECT(Program::compile(std::make_shared<RoundingDevice>(linear), spec, {}, &program).ok());
  SmallStep step(*program, tokens, capture);
  EXPECT(program->run(step.step).ok());
  std::vector<std::string> bf16 = program->bf16_buffers();
  std::sort(bf16.begin(), bf16.end());
  return {std::move(bf16), program->step_bytes()};
}

using Names = std::vector<std::string>;

}  // namespace

MOEPP_TEST(buffers_between_products_are_bf16) {
  const TemporaryFile file(SmallModel::floats());
  const ProgramSpec spec = SmallModel(file.path()).spec;
  // Not the experts' input, which the router and combine read, nor the last norm, which gather_rows
  // reads.
  const Ran all = run(spec, true, 5);
  EXPECT(all.bf16 == (Names{"next0", "next1", "up0", "up1", "up2", "y0"}));
  EXPECT(run(spec, false, 5).bf16 == (Names{"up0", "up1", "up2"}));
  // The sizes of the step decide.
  EXPECT(run(spec, true, 4).bf16 == (Names{"next0", "next1", "y0"}));
  EXPECT(run(spec, false, 4).bf16.empty());
  // A result has its own type.
  EXPECT(run(spec, true, 5, {"up1", "y0"}).bf16 == (Names{"next0", "next1", "up0", "up2"}));
}

MOEPP_TEST(a_bf16_buffer_takes_half_the_memory) {
  const TemporaryFile file(1 << 21);
  const ProgramSpec spec = SmallModel(file.path(), 32, 512).spec;  // "up" is the most of a step
  const int64_t tokens = 64, up_bytes = tokens * kChosen * 512 * 4;
  const int64_t bytes = run(spec, false, tokens).arena_bytes;
  EXPECT_MESSAGE(bytes > up_bytes / 2 && bytes < up_bytes, std::to_string(bytes));
}

// One reader that does not round keeps f32 for all.
MOEPP_TEST(every_reader_of_a_bf16_buffer_rounds) {
  const TemporaryFile file(SmallModel::floats());
  ProgramSpec spec = SmallModel(file.path()).spec;
  const auto op_of = [&](const std::string& label) {
    return *std::find_if(spec.ops.begin(), spec.ops.end(),
                         [&](const OpSpec& op) { return op.label == label; });
  };
  OpSpec linear = op_of("linear0"), gather = op_of("gather");
  for (OpSpec* op : {&linear, &gather}) {
    ProgramSpec with = spec;
    op->label += "_again";
    op->tensors["x"] = "y0";
    op->tensors["out"] = "again";
    with.buffers.push_back({"again", DType::kF32, {op == &linear ? kTokens : kRows, kHidden}});
    with.ops.push_back(*op);
    const Names names = run(with, true, 5).bf16;
    const bool narrow = std::find(names.begin(), names.end(), "y0") != names.end();
    EXPECT(narrow == (op == &linear));
  }
}

}  // namespace moepp::test
