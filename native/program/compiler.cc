// Program::compile: binds every op's fields to buffers and weights, and checks names, shapes,
// dtypes and order.
#include "check_data.h"
#include "letters.h"
#include "program.h"

namespace moepp {

class Compiler {
 public:
  Compiler(Program& program, const ProgramSpec& spec) : program_(program), spec_(spec) {}

  Status compile() {
    MOEPP_CHECK(declare());
    for (size_t i = 0; i < spec_.ops.size();) {
      const bool fused = is_norm_route(i);
      MOEPP_CHECK(fused ? add_norm_route(&spec_.ops[i]) : add(spec_.ops[i]));
      i += fused ? 3 : 1;
    }
    return check_whole();
  }

 private:
  class Binder;

  Status declare() {
    for (const BufferSpec& spec : spec_.buffers) {
      MOEPP_CHECK(check_declaration(spec.name, spec.shape));
      if (is_quantised(spec.dtype))
        return Status::error(
            Code::kBadProgram,
            "buffer " + spec.name + " is " + dtype_name(spec.dtype) + ", expected f32 or i32");
      auto buffer = std::make_unique<Program::Buffer>();
      buffer->name = spec.name;
      buffer->dtype = spec.dtype;
      buffer->shape = spec.shape;
      program_.buffer_index_[spec.name] = static_cast<int>(program_.buffers_.size());
      buffer->tensor.dtype = spec.dtype;
      set_shape(&buffer->tensor, spec.shape);
      program_.buffers_.push_back(std::move(buffer));
    }
    for (const WeightSpec& spec : spec_.weights) {
      MOEPP_CHECK(check_declaration(spec.name, spec.shape));
      auto weight = std::make_unique<Program::Weight>();
      weight->spec = spec;
      weight_index_[spec.name] = static_cast<int>(program_.weights_.size());
      weight->tensor.dtype = spec.dtype;
      set_shape(&weight->tensor, spec.shape);
      program_.weights_.push_back(std::move(weight));
    }
    return {};
  }

  Status check_declaration(const std::string& name, const Shape& shape) {
    if (program_.buffer_index_.count(name) || weight_index_.count(name))
      return Status::error(Code::kBadProgram, name + " is declared twice");
    if (shape.empty() || shape.size() > kMaxRank) {
      return Status::error(Code::kBadProgram,
                           name + ": shape " + shape_text(shape) + " must have 1 to 4 dimensions");
    }
    int64_t product = 1;
    for (const int64_t size : shape) {
      if (size < kPages || (size >= 0 && __builtin_mul_overflow(product, size, &product))) {
        return Status::error(Code::kBadProgram,
                             name + ": shape " + shape_text(shape) + " is not usable");
      }
    }
    return {};
  }

  static void set_shape(Tensor* tensor, const Shape& shape) {
    tensor->rank = static_cast<int>(shape.size());
    for (size_t i = 0; i < shape.size(); i++) tensor->shape[i] = shape[i];
  }

  Status add(const OpSpec& op);
  template <class Args>
  Status bind(const OpSpec& op, Program::Instruction& instruction, Args& args);
  bool is_norm_route(size_t first) const;
  Status add_norm_route(const OpSpec* ops);
  Status check_whole();

  Program& program_;
  const ProgramSpec& spec_;
  std::map<std::string, int> weight_index_;
};

// Visits one op's fields and points them to what the recorded op names.
class Compiler::Binder {
 public:
  Binder(Compiler& compiler, const OpSpec& op, Program::Instruction& instruction)
      : compiler_(compiler),
        program_(compiler.program_),
        op_(op),
        instruction_(instruction),
        index_(static_cast<int>(program_.instructions_.size())) {}

  void in(const char* field, const Tensor*& target, const char* shape, FieldType type) {
    input(field, target, shape, type, false);
  }
  void optional_in(const char* field, const Tensor*& target, const char* shape, FieldType type) {
    input(field, target, shape, type, true);
  }
  void out(const char* field, Tensor*& target, const char* shape, FieldType type) {
    output(field, target, shape, type, false);
  }
  void optional_out(const char* field, Tensor*& target, const char* shape, FieldType type) {
    output(field, target, shape, type, true);
  }
  void weight(const char* field, const Tensor*& target, const char* shape, Layout layout) {
    constant(field, target, shape, layout, false);
  }
  // Its layout, and a dtype narrower than f32, are those of an op that multiplies by it, if any
  // does.
  void table(const char* field, const Tensor*& target, const char* shape) {
    constant(field, target, shape, {}, false);
  }
  void optional_weight(const char* field, const Tensor*& target, const char* shape, Layout layout) {
    constant(field, target, shape, layout, true);
  }

  // The cache is the step's own and is not named in the recorded op.
  void cache(const char*, const KvView*& target) {
    program_.needs_cache_ = true;
    target = &program_.cache_;
  }

  void attribute(const char* field, float& target) { target = static_cast<float>(number(field)); }
  void attribute(const char* field, int32_t& target) {
    target = static_cast<int32_t>(number(field));
  }
  void attribute(const char* field, bool& target) { target = number(field) != 0; }
  void may_round(bool& target) { target = compiler_.spec_.compute == Compute::kBf16; }
  template <class Enum, class = std::enable_if_t<std::is_enum_v<Enum>>>
  void attribute(const char* field, Enum& target) {
    target = static_cast<Enum>(static_cast<int32_t>(number(field)));
  }
  // [kind, count, kind, count, ...]
  void attribute(const char* field, ExpertRuns& target) {
    const std::vector<double> list = numbers(field);
    bool fits = !list.empty() && list.size() % 2 == 0;
    for (size_t i = 0; fits && i < list.size(); i += 2) {
      const int kind = small_integer(list[i], kExpertKinds - 1),
                count = small_integer(list[i + 1], kMostExperts);
      fits = kind >= 0 && count >= 0 && target.append(static_cast<ExpertKind>(kind), count);
    }
    if (!fits) {
      fail(std::string(field) + " must be at most " + std::to_string(kMostExpertRuns) +
           " runs [kind, count, ...] of at most " + std::to_string(kMostExperts) + " experts");
    }
  }

  Status finish() {
    if (used_ != op_.tensors.size() + op_.attributes.size())
      fail("has a field that " + op_.op + " does not know");
    return status_;
  }

 private:
  void input(const char* field, const Tensor*& target, const char* shape, FieldType type,
             bool optional) {
    target = nullptr;
    const int index = find(field, program_.buffer_index_, "buffer", optional);
    if (index < 0) return;
    Program::Buffer& buffer = *program_.buffers_[index];
    check(field, buffer.name, buffer.shape, buffer.dtype, shape, type.dtype);
    if (type.dtype == DType::kI32 && buffer.writer >= 0) check_route(field, buffer);
    buffer.last_reader = index_;
    buffer.or_bf16 = buffer.or_bf16 && type.or_bf16;
    instruction_.reads.push_back(index);
    target = &buffer.tensor;
  }

  void output(const char* field, Tensor*& target, const char* shape, FieldType type,
              bool optional) {
    target = nullptr;
    const int index = find(field, program_.buffer_index_, "buffer", optional);
    if (index < 0) return;
    Program::Buffer& buffer = *program_.buffers_[index];
    check(field, buffer.name, buffer.shape, buffer.dtype, shape, type.dtype);
    if (buffer.writer >= 0) return fail(buffer.name + " is written twice");
    if (buffer.last_reader >= 0) return fail(buffer.name + " is read before it is written");
    buffer.writer = index_;
    buffer.written_as = field;
    buffer.optional = optional;
    buffer.or_bf16 = type.or_bf16;
    instruction_.writes.push_back(index);
    if (optional) instruction_.optional_outputs.push_back({&target, index});
    target = &buffer.tensor;
  }

  // Without a layout: a table.
  void constant(const char* field, const Tensor*& target, const char* shape,
                std::optional<Layout> layout, bool optional) {
    target = nullptr;
    const int index = find(field, compiler_.weight_index_, "weight", optional);
    if (index < 0) return;
    Program::Weight& weight = *program_.weights_[index];
    // Vectors and small matrices in rows are f32.
    const DType dtype = weight.spec.dtype;
    const bool narrow = (dtype == DType::kBf16 || is_quantised(dtype)) && layout != Layout::kRows;
    check(field, weight.spec.name, weight.spec.shape, dtype, shape, narrow ? dtype : DType::kF32);
    if (layout.has_value() && weight.layout.value_or(*layout) != *layout)
      return fail(weight.spec.name + " is used in two layouts");
    if (layout.has_value()) weight.layout = layout;
    weight.used = true;
    target = &weight.tensor;
  }

  // Integers that an op wrote are trusted as indices. So a field may read only the output of its
  // own name. All such fields of an op must come from one and the same op.
  void check_route(const char* field, const Program::Buffer& buffer) {
    if (buffer.written_as != field)
      return fail(std::string(field) + ": " + buffer.name + " was written as " + buffer.written_as);
    if (route_writer_ >= 0 && route_writer_ != buffer.writer)
      return fail(std::string(field) + " and another field come from different ops");
    route_writer_ = buffer.writer;
  }

  // The index of what the recorded op names for a field; -1, with an error unless optional, when it
  // names nothing.
  int find(const char* field, const std::map<std::string, int>& index, const char* kind,
           bool optional) {
    const auto name = op_.tensors.find(field);
    if (name == op_.tensors.end()) {
      if (!optional) fail(std::string(field) + " is missing");
      return -1;
    }
    used_++;
    const auto found = index.find(name->second);
    if (found != index.end()) return found->second;
    fail(std::string(field) + ": there is no " + kind + " named " + name->second);
    return -1;
  }

  std::vector<double> numbers(const char* field) {
    const auto found = op_.attributes.find(field);
    if (found == op_.attributes.end()) {
      fail(std::string(field) + " is missing");
      return {};
    }
    used_++;
    return found->second.numbers;
  }

  double number(const char* field) {
    const std::vector<double> list = numbers(field);
    if (list.size() == 1) return list[0];
    fail(std::string(field) + " must be one number");
    return 0;
  }

  // The number as an integer from 0 to `most`, or -1.
  static int small_integer(double number, int most) {
    for (int i = 0; i <= most; i++) {
      if (number == i) return i;
    }
    return -1;
  }

  void check(const char* field, const std::string& name, const Shape& shape, DType dtype,
             const char* pattern, DType expected_dtype) {
    std::string expected;
    const bool same = letters_.match(pattern, shape, &expected);
    if (same && dtype == expected_dtype) return;
    fail(std::string(field) + " (" + name + ") is " + shape_text(shape) + " " + dtype_name(dtype) +
         ", expected " + expected + " " + dtype_name(expected_dtype));
  }

  void fail(std::string message) {
    if (status_.ok())
      status_ = Status::error(Code::kBadProgram, op_.label + ": " + std::move(message), op_.label);
  }

  Compiler& compiler_;
  Program& program_;
  const OpSpec& op_;
  Program::Instruction& instruction_;
  const int index_;
  Letters letters_;
  size_t used_ = 0;
  int route_writer_ = -1;
  Status status_;
};

template <class Args>
Status Compiler::bind(const OpSpec& op, Program::Instruction& instruction, Args& args) {
  Binder binder(*this, op, instruction);
  args.visit(binder);
  MOEPP_CHECK(binder.finish());
  const std::string broken = broken_relation(AnyArgs(args));
  if (!broken.empty()) return Status::error(Code::kBadProgram, op.label + ": " + broken, op.label);
  return {};
}

Status Compiler::add(const OpSpec& op) {
  auto instruction = std::make_unique<Program::Instruction>();
  instruction->label = op.label;
  const Kernels& kernels = program_.device_->kernels();
  bool known = false, supported = false;
#define MOEPP_FUSED_OP(name, Args)
#define MOEPP_OP(name, Args)                                                            \
  if (op.op == #name) {                                                                 \
    known = true;                                                                       \
    supported = kernels.name != nullptr;                                                \
    instruction->args.emplace<Args>();                                                  \
    instruction->invoke = [](const AnyArgs& args, const Kernels& table, Queue& queue) { \
      table.name(std::get<Args>(args), queue);                                          \
    };                                                                                  \
  }
#include "ops.inc"
#undef MOEPP_OP
  if (!known)
    return Status::error(Code::kBadProgram, op.label + ": there is no op named " + op.op, op.label);
  if (!supported) {
    return Status::error(
        Code::kUnsupported,
        op.label + ": " + program_.device_->info().name + " has no kernel for " + op.op, op.label);
  }
  MOEPP_CHECK(std::visit(
      [&](auto& args) -> Status {
        if constexpr (std::is_same_v<std::decay_t<decltype(args)>, std::monostate>)
          return {};
        else
          return bind(op, *instruction, args);
      },
      instruction->args));
  program_.instructions_.push_back(std::move(instruction));
  return {};
}

// True if the device has the fused op and the ops from `first` on are its parts. These are an
// rms_norm, a one-layer router of its result, and top-k gating of the router's logits.
bool Compiler::is_norm_route(size_t first) const {
  if (program_.device_->kernels().norm_route_top_k == nullptr || first + 3 > spec_.ops.size())
    return false;
  const OpSpec &norm = spec_.ops[first], &router = spec_.ops[first + 1],
               &route = spec_.ops[first + 2];
  const auto passes = [](const OpSpec& from, const char* out, const OpSpec& to, const char* in) {
    const auto written = from.tensors.find(out), read = to.tensors.find(in);
    if (written == from.tensors.end() || read == to.tensors.end())
      return written == from.tensors.end() && read == to.tensors.end();
    return written->second == read->second;
  };
  return norm.op == "rms_norm" && router.op == "router_logits" && route.op == "route_top_k" &&
         router.tensors.count("hidden") == 0 && passes(norm, "out", router, "x") &&
         passes(router, "logits", route, "logits") &&
         passes(router, "constant_scores", route, "constant_scores");
}

// One instruction for the three. It reads and writes all that they do. So each buffer keeps its
// memory for as long as any of them needs it. Every result can be captured.
Status Compiler::add_norm_route(const OpSpec* ops) {
  auto instruction = std::make_unique<Program::Instruction>();
  instruction->label = ops[0].label + " + " + ops[1].label + " + " + ops[2].label;
  NormRouteTopKArgs& args = instruction->args.emplace<NormRouteTopKArgs>();
  instruction->invoke = [](const AnyArgs& any, const Kernels& table, Queue& queue) {
    table.norm_route_top_k(std::get<NormRouteTopKArgs>(any), queue);
  };
  MOEPP_CHECK(bind(ops[0], *instruction, args.norm));
  MOEPP_CHECK(bind(ops[1], *instruction, args.router));
  MOEPP_CHECK(bind(ops[2], *instruction, args.route));
  program_.instructions_.push_back(std::move(instruction));
  return {};
}

Status Compiler::check_whole() {
  for (const std::string& name : spec_.outputs) {
    const auto found = program_.buffer_index_.find(name);
    if (found == program_.buffer_index_.end() || program_.buffers_[found->second]->writer < 0) {
      return Status::error(Code::kBadProgram, "output " + name + ": no op writes it");
    }
  }
  for (const auto& weight : program_.weights_) {
    if (!weight->used)
      return Status::error(Code::kBadProgram, "weight " + weight->spec.name + ": no op reads it");
    const std::string broken = broken_weight(weight->spec, weight->order());
    if (!broken.empty())
      return Status::error(Code::kBadProgram, "weight " + weight->spec.name + broken);
  }
  for (const auto& buffer : program_.buffers_)
    if (buffer->writer < 0) program_.inputs_.push_back(&buffer->tensor);
  program_.outputs_ = spec_.outputs;
  return {};
}

Status Program::compile(std::shared_ptr<Device> device, const ProgramSpec& spec,
                        const Control& control, std::unique_ptr<Program>* program) {
  auto compiled = std::make_unique<Program>();
  compiled->device_ = std::move(device);
  MOEPP_CHECK(Compiler(*compiled, spec).compile());
  const Status loaded = compiled->load_weights(control);
  compiled->device_->end_loading();
  MOEPP_CHECK(loaded);
  *program = std::move(compiled);
  return {};
}

}  // namespace moepp
