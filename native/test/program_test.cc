// The interpreter: what it refuses, and that neither the memory plan nor captures change results.
#include "program/program.h"

#include "compare.h"
#include "cpu/isa/isa.h"
#include "small_model.h"
#include "test.h"

namespace moepp::test {

static std::shared_ptr<Device> open_device(int threads = 2) {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(threads, "", &device).ok());
  return device;
}

static Status compile(const ProgramSpec& spec, std::unique_ptr<Program>* program) {
  return Program::compile(open_device(), spec, {}, program);
}

// Expects that the program is refused with a message that holds `words`.
static void expect_refused(const ProgramSpec& spec, const std::string& words) {
  std::unique_ptr<Program> program;
  const Status status = compile(spec, &program);
  EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                 "expected '" + words + "', got '" + status.message + "'");
}

MOEPP_TEST(program_refuses_what_is_inconsistent) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto changed = [&](auto change) {
    ProgramSpec spec = model.spec;
    change(spec);
    return spec;
  };
  expect_refused(changed([](ProgramSpec& s) { s.ops[0].op = "embeding"; }),
                 "embedding: there is no op named embeding");
  expect_refused(changed([](ProgramSpec& s) { s.ops[1].tensors["x"] = "nothing"; }),
                 "norm: x: there is no buffer named nothing");
  expect_refused(changed([](ProgramSpec& s) { s.ops[1].tensors.erase("weight"); }),
                 "norm: weight is missing");
  expect_refused(changed([](ProgramSpec& s) { s.ops[1].attributes.erase("eps"); }),
                 "norm: eps is missing");
  expect_refused(changed([](ProgramSpec& s) { s.ops[1].attributes["epsilon"] = 1; }),
                 "norm: has a field that rms_norm does not know");
  expect_refused(changed([](ProgramSpec& s) {
                   s.buffers[2].shape = {kTokens, kHidden + 1};
                 }),
                 "embedding: out (x0) is [T, 21] f32, expected [T, 20] f32");
  expect_refused(changed([](ProgramSpec& s) { s.buffers[2].dtype = DType::kI32; }),
                 "out (x0) is [T, 20] i32, expected [T, 20] f32");
  expect_refused(changed([](ProgramSpec& s) {
                   s.buffers[2].shape = {kRows, kHidden};
                 }),
                 "is [R, 20] f32, expected [T, 20] f32");
  expect_refused(changed([](ProgramSpec& s) { s.buffers.push_back(s.buffers[0]); }),
                 "tokens is declared twice");
  expect_refused(changed([](ProgramSpec& s) { std::swap(s.ops[0], s.ops[1]); }),
                 "is read before it is written");
  expect_refused(changed([](ProgramSpec& s) { s.ops.push_back(s.ops[1]); }), "is written twice");
  expect_refused(changed([](ProgramSpec& s) { s.outputs = {"tokens"}; }),
                 "output tokens: no op writes it");
  expect_refused(changed([](ProgramSpec& s) {
                   s.weights.push_back({"more", DType::kF32, {1}, {}});
                 }),
                 "weight more: no op reads it");
  expect_refused(changed([](ProgramSpec& s) { s.weights[0].parts.clear(); }),
                 "table: its parts have 0 rows");
  expect_refused(changed([](ProgramSpec& s) { s.weights[1].dtype = DType::kBf16; }),
                 "weight (norm) is [20] bf16, expected [20] f32");
  expect_refused(changed([](ProgramSpec& s) { s.weights[0].parts[0].file += ".missing"; }),
                 "cannot be opened");
  expect_refused(changed([](ProgramSpec& s) { s.weights[0].parts[0].byte_offset = 1u << 30; }),
                 "lie past the end");
}

MOEPP_TEST(program_computes_in_bf16_where_it_may) {
  const TemporaryFile file(SmallModel::floats());
  ProgramSpec spec = SmallModel(file.path()).spec;
  for (WeightSpec& weight : spec.weights) {
    if (is_matrix(weight)) weight.dtype = DType::kBf16;
  }
  for (const cpu::Isa& isa : cpu::available_isas()) {
    std::vector<float> logits[2];
    for (const Compute compute : {Compute::kExact, Compute::kBf16}) {
      std::shared_ptr<Device> device;
      std::unique_ptr<Program> program;
      spec.compute = compute;
      EXPECT(open_cpu_device(1, isa.name, &device).ok());
      EXPECT(Program::compile(device, spec, {}, &program).ok());
      SmallStep small(*program, 9);
      EXPECT(program->run(small.step).ok());
      logits[compute == Compute::kBf16] = small.results["logits"];
    }
    EXPECT(same_bits(logits[0].data(), logits[1].data(), logits[0].size() * 4) !=
           isa.multiplies_pairs);
  }
}

MOEPP_TEST(program_checks_the_step) {
  const TemporaryFile file(SmallModel::floats());
  std::unique_ptr<Program> program;
  EXPECT(compile(SmallModel(file.path()).spec, &program).ok());
  const auto refused = [&](auto change, const std::string& words) {
    SmallStep small(*program, 3);
    change(small);
    const Status status = program->run(small.step);
    EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                   "expected '" + words + "', got '" + status.message + "'");
  };
  refused([](SmallStep& s) { s.tokens[1] = -1; }, "embedding: tokens[1] is -1, expected 0 to 36");
  refused([](SmallStep& s) { s.tokens[2] = 37; }, "tokens[2] is 37, expected 0 to 36");
  refused([](SmallStep& s) { s.rows[0] = 3; }, "gather: rows[0] is 3, expected 0 to 2");
  refused([](SmallStep& s) { s.step.inputs.erase("rows"); }, "input rows is missing");
  refused([](SmallStep& s) { s.step.inputs["rows"].bytes = 4; }, "rows has 4 bytes, expected 12");
  refused([](SmallStep& s) { s.step.sizes.tokens = 0; }, "at least one token");
  SmallStep good(*program, 3);
  EXPECT(program->run(good.step).ok());
}

MOEPP_TEST(program_memory_plan_changes_nothing) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  std::unique_ptr<Program> program;
  EXPECT(compile(model.spec, &program).ok());
  // With every buffer captured, no two share memory: whatever the plan lets overlap would show as a
  // difference.
  std::vector<std::string> all;
  for (const BufferSpec& buffer : model.spec.buffers) {
    if (buffer.name != "tokens" && buffer.name != "rows" && buffer.name != "logits")
      all.push_back(buffer.name);
  }
  for (const int64_t tokens : {1, 2, 7, 64, 3}) {
    SmallStep plain(*program, tokens), captured(*program, tokens, all);
    EXPECT(program->run(plain.step).ok());
    EXPECT(program->run(captured.step).ok());
    EXPECT(same_bits(plain.results["logits"].data(), captured.results["logits"].data(),
                     plain.results["logits"].size() * 4));
    EXPECT(captured.results["moe_output1"][0] != -12345.0f &&
           captured.results["total2"][0] != -12345.0f);
  }
}

// The linear and grouped weights in `dtype`; the table, which the head shares, among them.
static ProgramSpec quantised(const SmallModel& model, DType dtype) {
  ProgramSpec spec = model.spec;
  for (WeightSpec& weight : spec.weights) {
    const char* panels[] = {"table", "w0", "w1", "w2", "gate_up", "down_proj"};
    for (const char* name : panels) {
      if (weight.name.rfind(name, 0) == 0) weight.dtype = dtype;
    }
  }
  return spec;
}

MOEPP_TEST(program_quantises_while_loading) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  std::vector<float> unquantised;
  for (const DType dtype : {DType::kF32, DType::kI8, DType::kI4}) {
    std::vector<float> first;
    for (const int threads : {1, 2}) {
      std::unique_ptr<Program> program;
      const Status status =
          Program::compile(open_device(threads), quantised(model, dtype), {}, &program);
      EXPECT_MESSAGE(status.ok(), status.message);
      if (!status.ok()) return;
      SmallStep small(*program, 7);
      EXPECT(program->run(small.step).ok());
      const std::vector<float>& logits = small.results["logits"];
      if (first.empty()) first = logits;
      EXPECT(same_bits(first.data(), logits.data(), logits.size() * 4));
    }
    if (unquantised.empty()) unquantised = first;
    EXPECT((dtype == DType::kF32) == same_bits(first.data(), unquantised.data(), first.size() * 4));
  }
}

MOEPP_TEST(program_refuses_what_cannot_be_quantised) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  const auto changed = [&](auto change) {
    ProgramSpec spec = quantised(model, DType::kI4);
    change(spec);
    return spec;
  };
  expect_refused(changed([](ProgramSpec& s) { s.weights[1].dtype = DType::kI8; }),
                 "weight (norm) is [20] int8, expected [20] f32");
  expect_refused(changed([](ProgramSpec& s) { s.weights[0].dtype = DType::kF8; }),
                 "float8, which cpu does not hold");
  expect_refused(changed([](ProgramSpec& s) { s.buffers[2].dtype = DType::kI8; }),
                 "buffer x0 is int8, expected f32 or i32");
  expect_refused(changed([](ProgramSpec& s) {
                   s.ops.pop_back();
                   s.outputs = {"last"};
                 }),
                 "weight table is int4, but no linear or grouped_gemm reads it");
  // The third of the table's values becomes infinite.
  ProgramSpec spec = quantised(model, DType::kI8);
  const float infinite = HUGE_VALF;
  std::FILE* stored = std::fopen(file.path().c_str(), "r+b");
  std::fseek(stored,
             static_cast<long>(spec.weights[0].parts[0].byte_offset + 4 * (3 * kHidden + 2)),
             SEEK_SET);
  EXPECT(std::fwrite(&infinite, 4, 1, stored) == 1);
  std::fclose(stored);
  expect_refused(
      spec, "table: row 3 holds a NaN or an infinity, which int8 cannot; expected finite values");
}

MOEPP_TEST(program_is_cancelled_between_ops) {
  const TemporaryFile file(SmallModel::floats());
  std::unique_ptr<Program> program;
  EXPECT(compile(SmallModel(file.path()).spec, &program).ok());
  SmallStep small(*program, 3);
  std::atomic<int64_t> cancelled{1};
  small.step.control.cancelled = &cancelled;
  EXPECT(program->run(small.step).code == Code::kAborted);
  cancelled = 0;
  EXPECT(program->run(small.step).ok());
  std::unique_ptr<Program> never;
  cancelled = 1;
  EXPECT(Program::compile(open_device(), SmallModel(file.path()).spec, small.step.control, &never)
             .code == Code::kAborted);
}

// Random changes to a good program: each is refused, or compiles to a program that runs.
MOEPP_TEST(program_survives_mutations) {
  const TemporaryFile file(SmallModel::floats());
  const SmallModel model(file.path());
  std::mt19937 random(42);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  int ran = 0;
  for (int round = 0; round < 400; round++) {
    ProgramSpec spec = model.spec;
    for (size_t changes = 1 + below(2); changes > 0; changes--) {
      OpSpec& op = spec.ops[below(spec.ops.size())];
      BufferSpec& buffer = spec.buffers[below(spec.buffers.size())];
      WeightSpec& weight = spec.weights[below(spec.weights.size())];
      auto field = op.tensors.begin();
      std::advance(field, static_cast<long>(below(op.tensors.size())));
      switch (below(8)) {
        case 0:
          field->second = spec.buffers[below(spec.buffers.size())].name;
          break;
        case 1:
          field->second = spec.weights[below(spec.weights.size())].name;
          break;
        case 2:
          op.tensors.erase(field);
          break;
        case 3:
          buffer.shape[below(buffer.shape.size())] = static_cast<int64_t>(below(45)) - 5;
          break;
        case 4:
          weight.shape[below(weight.shape.size())] = static_cast<int64_t>(below(45));
          break;
        case 5:
          weight.parts[0].strides[below(weight.parts[0].strides.size())] =
              static_cast<int64_t>(below(2000));
          break;
        case 6:
          weight.parts[0].byte_offset = below(200000);
          break;
        case 7:
          op.op = spec.ops[below(spec.ops.size())].op;
          break;
      }
    }
    std::unique_ptr<Program> program;
    if (!compile(spec, &program).ok()) continue;
    SmallStep small(*program, 5);
    ran += program->run(small.step).ok() ? 1 : 0;
  }
  EXPECT(ran > 10);
}

}  // namespace moepp::test
