// The routing of a recorded program. The compiler makes one op of a one-layer router's three and
// the product before them, and one of the experts' last product and their sum. It does so where a
// device has the fused op, and nowhere else. It refuses wrong lists of experts.
#include <algorithm>
#include <array>

#include "compare.h"
#include "program/program.h"
#include "small_model.h"
#include "test.h"
#include "wrapped_cpu.h"

namespace moepp::test {

namespace {

// Calls of norm_route_top_k, linear_norm_route_top_k and grouped_gemm_combine.
using Calls = std::array<int, 3>;
Calls calls;
const Kernels* cpu_kernels = nullptr;

// The CPU, whose fused ops count their calls or are missing.
class CountingDevice : public WrappedCpu {
 public:
  explicit CountingDevice(bool fuses) {
    cpu_kernels = &cpu_->kernels();
    kernels_ = cpu_->kernels();
    kernels_.norm_route_top_k = nullptr;
    kernels_.linear_norm_route_top_k = nullptr;
    kernels_.grouped_gemm_combine = nullptr;
    if (!fuses) return;
    kernels_.norm_route_top_k = [](const NormRouteTopKArgs& args, Queue& queue) {
      calls[0]++;
      cpu_kernels->norm_route_top_k(args, queue);
    };
    kernels_.linear_norm_route_top_k = [](const LinearNormRouteTopKArgs& args, Queue& queue) {
      calls[1]++;
      cpu_kernels->linear(args.linear, queue);
      cpu_kernels->norm_route_top_k(args.rest, queue);
    };
    kernels_.grouped_gemm_combine = [](const GroupedGemmCombineArgs& args, Queue& queue) {
      calls[2]++;
      cpu_kernels->grouped_gemm(args.gemm, queue);
      cpu_kernels->combine(args.combine, queue);
    };
  }
  const Kernels& kernels() const override { return kernels_; }
  void look_ahead(const WeightAhead& weight) override { ahead.push_back(weight); }

  std::vector<WeightAhead> ahead;  // before each op

 private:
  Kernels kernels_;
};

OpSpec& op_of(ProgramSpec& spec, const std::string& label) {
  return *std::find_if(spec.ops.begin(), spec.ops.end(),
                       [&](const OpSpec& op) { return op.label == label; });
}

// Every buffer that an op of `spec` writes, but the output.
std::vector<std::string> written(const ProgramSpec& spec) {
  std::vector<std::string> names;
  for (const BufferSpec& buffer : spec.buffers) {
    if (buffer.name != "tokens" && buffer.name != "rows" && buffer.name != "logits")
      names.push_back(buffer.name);
  }
  return names;
}

// Runs the program with and without the fused ops, and with and without captures. All results agree
// bit by bit, and the fused ops have run so many times in each of the first.
void expect_fused(const ProgramSpec& spec, const Calls& expected, const std::string& what) {
  std::map<std::string, std::vector<float>> first;
  for (const bool fuses : {true, false}) {
    std::unique_ptr<Program> program;
    const Status status =
        Program::compile(std::make_shared<CountingDevice>(fuses), spec, {}, &program);
    EXPECT_MESSAGE(status.ok(), what + ": " + status.message);
    if (!status.ok()) return;
    for (const auto& capture : {written(spec), std::vector<std::string>()}) {
      SmallStep small(*program, 7, capture);
      calls = {};
      const Status ran = program->run(small.step);
      EXPECT_MESSAGE(ran.ok(), what + ": " + ran.message);
      EXPECT_MESSAGE(calls == (fuses ? expected : Calls()),
                     what + ": fused " + std::to_string(calls[0]) + ", " +
                         std::to_string(calls[1]) + " and " + std::to_string(calls[2]) + " times");
      if (first.empty()) first = small.results;
      for (const auto& [name, values] : small.results) {
        // Entries of token_order past the FFN picks are not written.
        if (name.rfind("order", 0) == 0) continue;
        EXPECT_MESSAGE(same_bits(values.data(), first[name].data(), values.size() * 4),
                       what + ": " + name + " differs");
      }
    }
  }
}

}  // namespace

// Layer 1 of the small model has a two-layer router.
MOEPP_TEST(program_fuses_ops) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  expect_fused(model.spec, {0, 2, 3}, "the model");

  ProgramSpec spec = model.spec;
  op_of(spec, "middle0").tensors.erase("delta");
  op_of(spec, "middle0").tensors.erase("sum");
  op_of(spec, "combine0").tensors["residual"] = "x0";
  spec.buffers.erase(std::find_if(spec.buffers.begin(), spec.buffers.end(),
                                  [](const BufferSpec& b) { return b.name == "sum0"; }));
  expect_fused(spec, {1, 1, 3}, "a norm without delta");

  spec = model.spec;
  spec.buffers.push_back({"between", DType::kF32, {kTokens, kHidden}});
  const OpSpec between = {
      "rms_norm", "between", {{"x", "z0"}, {"weight", "norm"}, {"out", "between"}}, {{"eps", 1}}};
  const auto router = std::find_if(spec.ops.begin(), spec.ops.end(),
                                   [](const OpSpec& op) { return op.label == "router0"; });
  spec.ops.insert(router, between);
  expect_fused(spec, {0, 1, 3}, "an op in between");

  spec = model.spec;
  op_of(spec, "router0").tensors["x"] = "y0";
  expect_fused(spec, {0, 1, 3}, "a router of another norm");

  spec = model.spec;
  op_of(spec, "route2").tensors["logits"] = "router_logits0";
  expect_fused(spec, {0, 1, 3}, "gating of other logits");

  spec = model.spec;
  op_of(spec, "route2").tensors["constant_scores"] = "scores0";
  expect_fused(spec, {0, 1, 3}, "gating of other scores");

  spec = model.spec;
  op_of(spec, "middle2").tensors["delta"] = "mixed0";
  expect_fused(spec, {1, 1, 3}, "a norm of another product");

  spec = model.spec;
  op_of(spec, "combine1").tensors["expert_out"] = "sum_again";
  OpSpec again = op_of(spec, "down1");
  again.label = "down_again", again.tensors["out"] = "sum_again";
  spec.ops.insert(std::find_if(spec.ops.begin(), spec.ops.end(),
                               [](const OpSpec& op) { return op.label == "down1"; }),
                  again);
  spec.buffers.push_back({"sum_again", DType::kF32, {kTokens, kChosen, kHidden}});
  expect_fused(spec, {0, 2, 2}, "a sum of other experts");
}

MOEPP_TEST(program_names_the_part_that_is_wrong) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto refused = [&](auto change, const std::string& words) {
    ProgramSpec spec = model.spec;
    change(spec);
    std::unique_ptr<Program> program;
    const Status status =
        Program::compile(std::make_shared<CountingDevice>(true), spec, {}, &program);
    EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                   "expected '" + words + "', got '" + status.message + "'");
  };
  const auto gating = [&](const char* field, Attribute value, const std::string& words) {
    refused([&](ProgramSpec& s) { op_of(s, "route0").attributes[field] = value; },
            "route0: " + words);
  };
  refused([](ProgramSpec& s) { op_of(s, "middle0").op = "norm_route_top_k"; },
          "middle0: there is no op named norm_route_top_k");
  refused(
      [](ProgramSpec& s) {
        op_of(s, "middle0").attributes["eps"] = {1, 2};
      },
      "middle0: eps must be one number");
  refused([](ProgramSpec& s) { op_of(s, "router0").tensors.erase("constant_router"); },
          "router0: has a field that router_logits does not know");
  refused([](ProgramSpec& s) { op_of(s, "router2").tensors.erase("residual_map"); },
          "router2: residual_map is missing");
  refused([](ProgramSpec& s) { op_of(s, "route0").tensors.erase("constant_scores"); },
          "route0: constant_scores is missing");
  refused([](ProgramSpec& s) { op_of(s, "up1").tensors["expert_offsets"] = "offsets0"; },
          "up1: expert_offsets and another field come from different ops");
  refused([](ProgramSpec& s) { op_of(s, "combine0").tensors.erase("norm_weight"); },
          "combine0: has a field that combine does not know");
  refused([](ProgramSpec& s) { op_of(s, "combine0").tensors.erase("constants"); },
          "combine0: coefficients must be [T, C+1]");
  for (const Attribute& list :
       {Attribute{std::initializer_list<double>{}}, Attribute{0, 3, 1}, Attribute{4, 7},
        Attribute{0, -1}, Attribute{0, 2.5}, Attribute{0, 1025}, Attribute{NAN, 7},
        Attribute{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}})
    gating("experts", list, "experts must be at most 8 runs");
  gating("experts", {0, 3, 1, 2, 2, 1, 3, 2}, "experts are 8, expected 7");
  gating("experts", {0, 2, 1, 2, 2, 1, 3, 2}, "expert_offsets must be [3]");
  gating("experts", {0, 4, 1, 1, 2, 1, 3, 1}, "constant_scores must be [T, 2]");
  gating("scores", 2, "scores must be softmax or sigmoid");
  gating("groups", 2, "groups must be 1 to 32 equal runs");
  gating("groups", 7, "groups must be 1 to 32 equal runs");
  gating("top_groups", 2, "groups must be 1 to 32 equal runs");
  gating("masked", 1, "norm_std must be 0 with masked experts");
  gating("weight_scale", 0, "input_scale and weight_scale must be positive");
}

// Before each op: the next dense weight, and two of three experts' weights for each product of
// experts before it.
MOEPP_TEST(program_looks_ahead) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto device = std::make_shared<CountingDevice>(true);
  std::unique_ptr<Program> program;
  EXPECT(Program::compile(device, model.spec, {}, &program).ok());
  SmallStep small(*program, 1, {});
  EXPECT(program->run(small.step).ok());
  const auto bytes = [&](const char* name, Layout layout) {
    for (const WeightSpec& weight : model.spec.weights) {
      if (weight.name == name) return device->weight_bytes(weight, layout);
    }
    return int64_t{-1};
  };
  const int64_t square = bytes("w0", Layout::kMatrix), hidden = bytes("wh1", Layout::kMatrix),
                head = bytes("table", Layout::kMatrix),
                down = bytes("down_proj0", Layout::kMatrix) / 3 * 2,
                both = bytes("gate_up0", Layout::kGateUp) / 3 * 2 + down;
  const std::vector<std::pair<int64_t, int64_t>> expected = {
      {square, 0},    {square, 0},                                  // embedding, norm
      {square, both}, {square, down}, {square, 0},                  // layer 0
      {hidden, 0},    {hidden, 0},    {square, both},               // layer 1 to its router
      {square, both}, {square, both}, {square, down}, {square, 0},  // from its router on
      {head, both},   {head, down},   {head, 0},      {head, 0},   {0, 0}};  // layer 2 and the head
  EXPECT(device->ahead.size() == expected.size());
  for (size_t i = 0; i < std::min(expected.size(), device->ahead.size()); i++) {
    const WeightAhead& ahead = device->ahead[i];
    EXPECT_MESSAGE(ahead.bytes == expected[i].first && ahead.bytes_before == expected[i].second,
                   "before instruction " + std::to_string(i) + ": " + std::to_string(ahead.bytes) +
                       " bytes after " + std::to_string(ahead.bytes_before));
    EXPECT((ahead.data == nullptr) == (ahead.bytes == 0));
  }
}

}  // namespace moepp::test
