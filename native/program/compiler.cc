// Program::compile: binds every op's fields to buffers and weights, and checks names, shapes,
// dtypes and order.
#include "binder.h"
#include "letters.h"
#include "program.h"
#include "weights/quantise.h"

namespace moepp {

// The fault of a weight that ops read in this order, in words that follow its name, or "".
static std::string broken_weight(const Device& device, const WeightSpec& spec, Layout order) {
  for (const int64_t size : spec.shape) {
    if (size < 0) return ": its shape must be known";
  }
  if (!is_blocked(spec.dtype)) return {};
  const std::string dtype = dtype_name(spec.dtype);
  if (order == Layout::kRows)
    return " is " + dtype + ", but no linear or grouped_gemm reads it; expected f32 or bf16";
  if (spec.dtype == DType::kF8 && !device.holds_float8())
    return " is " + dtype + ", which " + device.info().name +
           " does not hold; expected f32 or bf16";
  if (spec.shape.back() >= 1 && spec.shape.back() <= kMostQuantisedInputs) return {};
  return " is " + shape_text(spec.shape) + " " + dtype + ", expected rows of 1 to " +
         std::to_string(kMostQuantisedInputs) + " elements";
}

// A place in a device's table.
template <class Args>
using KernelOf = void (*Kernels::*)(const Args& args, Queue& queue);

class Compiler {
 public:
  Compiler(Program& program, const ProgramSpec& spec) : program_(program), spec_(spec) {}

  Status compile() {
    MOEPP_CHECK(declare());
    for (size_t i = 0; i < spec_.ops.size();) MOEPP_CHECK(add_at(&i));
    for (const LookupSpec& lookup : spec_.lookups) MOEPP_CHECK(add_lookup(lookup));
    return check_whole();
  }

 private:
  Status declare() {
    for (const BufferSpec& spec : spec_.buffers) {
      MOEPP_CHECK(check_declaration(spec.name, spec.shape));
      if (is_blocked(spec.dtype))
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
      if (size < kReceived || (size >= 0 && __builtin_mul_overflow(product, size, &product))) {
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

  Status add_lookup(const LookupSpec& spec);
  Status add_at(size_t* at);
  Status add(const OpSpec& op);
  template <class Args, KernelOf<Args> kKernel>
  Status add_fused(size_t* at);
  template <class Args>
  Status bind(const OpSpec& op, Program::Instruction& instruction, Args& args);
  bool is(size_t at, const char* op) const {
    return at < spec_.ops.size() && spec_.ops[at].op == op;
  }
  bool passes(size_t from, const char* out, size_t to, const char* in) const;
  bool is_norm_route(size_t first) const;
  Status check_whole();

  Program& program_;
  const ProgramSpec& spec_;
  std::map<std::string, int> weight_index_;
  int stage_ = 0;  // of the next op
};

// Its buffers must be inputs that fit together. The table is mapped.
Status Compiler::add_lookup(const LookupSpec& spec) {
  const auto bad = [&spec](const std::string& text) {
    return Status::error(Code::kBadProgram, spec.label + ": " + text, spec.label);
  };
  const Shape& table = spec.table.shape;
  if (table.size() != 2) return bad(spec.table.name + " must be a matrix");
  int indices[2], *index = indices;
  for (const std::string& name : {spec.rows, spec.out}) {
    const auto found = program_.buffer_index_.find(name);
    if (found == program_.buffer_index_.end()) return bad("there is no buffer named " + name);
    if (program_.buffers_[found->second]->writer >= 0) return bad("an op writes " + name);
    *index++ = found->second;
  }
  const Program::Buffer &rows = *program_.buffers_[indices[0]],
                        &out = *program_.buffers_[indices[1]];
  if (rows.dtype != DType::kI32 || rows.shape.size() != 2 || rows.shape[0] != kTokens ||
      rows.shape[1] < 1)
    return bad(spec.rows + " is " + shape_text(rows.shape) + " " + dtype_name(rows.dtype) +
               ", expected [T, N] i32");
  int64_t width;
  if (__builtin_mul_overflow(rows.shape[1], table[1], &width) || out.dtype != DType::kF32 ||
      out.shape != Shape{kTokens, width})
    return bad(spec.out + " is " + shape_text(out.shape) + " " + dtype_name(out.dtype) +
               ", expected " + shape_text({kTokens, width}) + " f32");
  program_.lookups_.push_back({{}, indices[0], indices[1], {}});
  return Lookup::open(spec, &program_.lookups_.back().table);
}

template <class Args>
Status Compiler::bind(const OpSpec& op, Program::Instruction& instruction, Args& args) {
  Binder binder(program_, weight_index_, spec_.compute, op, instruction, stage_);
  args.visit(binder);
  MOEPP_CHECK(binder.finish());
  const std::string broken = broken_relation(args);
  if (!broken.empty()) return Status::error(Code::kBadProgram, op.label + ": " + broken, op.label);
  return {};
}

Status Compiler::add(const OpSpec& op) {
  auto instruction = std::make_unique<Program::Instruction>();
  instruction->label = op.label;
  const Kernels& kernels = program_.device_->kernels();
  bool known = false, supported = false;
#define MOEPP_ADD(name, Args)                                                           \
  if (op.op == #name) {                                                                 \
    known = true;                                                                       \
    supported = kernels.name != nullptr;                                                \
    instruction->args.emplace<Args>();                                                  \
    instruction->invoke = [](const AnyArgs& args, const Kernels& table, Queue& queue) { \
      table.name(std::get<Args>(args), queue);                                          \
    };                                                                                  \
  }
#define MOEPP_SKIP(name, Args)
  MOEPP_OPS(MOEPP_ADD, MOEPP_SKIP)
#undef MOEPP_ADD
#undef MOEPP_SKIP
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
  stage_++;
  return {};
}

// True if the one op reads in that field what the other wrote, or neither has it.
bool Compiler::passes(size_t from, const char* out, size_t to, const char* in) const {
  const auto &written = spec_.ops[from].tensors, &read = spec_.ops[to].tensors;
  const auto source = written.find(out), target = read.find(in);
  if (source == written.end() || target == read.end())
    return source == written.end() && target == read.end();
  return source->second == target->second;
}

// True if the ops from `first` on are an rms_norm, a one-layer router of its result, and top-k
// gating of the router's logits.
bool Compiler::is_norm_route(size_t first) const {
  return is(first, "rms_norm") && is(first + 1, "router_logits") && is(first + 2, "route_top_k") &&
         spec_.ops[first + 1].tensors.count("hidden") == 0 &&
         passes(first, "out", first + 1, "x") && passes(first + 1, "logits", first + 2, "logits") &&
         passes(first + 1, "constant_scores", first + 2, "constant_scores");
}

// One instruction for several ops. It reads and writes all that they do. So each buffer keeps its
// memory for as long as a stage of any of them needs it. Every result can be captured.
template <class Args, KernelOf<Args> kKernel>
Status Compiler::add_fused(size_t* at) {
  auto instruction = std::make_unique<Program::Instruction>();
  Args& args = instruction->args.emplace<Args>();
  instruction->invoke = [](const AnyArgs& any, const Kernels& table, Queue& queue) {
    (table.*kKernel)(std::get<Args>(any), queue);
  };
  const int first = stage_;
  Status status;
  args.parts([&](auto& part, int stage) {
    if (!status.ok()) return;
    stage_ = first + stage;
    const OpSpec& op = spec_.ops[(*at)++];
    instruction->label += (instruction->label.empty() ? "" : " + ") + op.label;
    status = bind(op, *instruction, part);
  });
  MOEPP_CHECK(status);
  program_.instructions_.push_back(std::move(instruction));
  stage_++;
  return {};
}

// Adds the longest of the fused ops that begins there, or the op itself, and moves past it.
Status Compiler::add_at(size_t* at) {
  const size_t i = *at;
  const Kernels& has = program_.device_->kernels();
  if (has.linear_rope_store != nullptr && is(i, "linear") && is(i + 1, "rope_store") &&
      passes(i, "out", i + 1, "qkv"))
    return add_fused<LinearRopeStoreArgs, &Kernels::linear_rope_store>(at);
  if (has.linear_norm_route_top_k != nullptr && is(i, "linear") && is_norm_route(i + 1) &&
      passes(i, "out", i + 1, "delta"))
    return add_fused<LinearNormRouteTopKArgs, &Kernels::linear_norm_route_top_k>(at);
  if (has.norm_route_top_k != nullptr && is_norm_route(i))
    return add_fused<NormRouteTopKArgs, &Kernels::norm_route_top_k>(at);
  if (has.grouped_gemm_combine != nullptr && is(i, "grouped_gemm") && is(i + 1, "combine") &&
      passes(i, "out", i + 1, "expert_out"))
    return add_fused<GroupedGemmCombineArgs, &Kernels::grouped_gemm_combine>(at);
  return add(spec_.ops[(*at)++]);
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
    const std::string broken = broken_weight(*program_.device_, weight->spec, weight->order());
    if (!broken.empty())
      return Status::error(Code::kBadProgram, "weight " + weight->spec.name + broken);
  }
  for (const auto& buffer : program_.buffers_)
    if (buffer->writer < 0) program_.inputs_.push_back(&buffer->tensor);
  program_.outputs_ = spec_.outputs;
  return {};
}

Status Program::compile(std::shared_ptr<Device> device, const ProgramSpec& spec,
                        const Control& control, std::unique_ptr<Program>* program,
                        std::shared_ptr<parallel::Group> group) {
  auto compiled = std::make_unique<Program>();
  compiled->device_ = std::move(device);
  compiled->group_ = std::move(group);
  MOEPP_CHECK(Compiler(*compiled, spec).compile());
  const Status loaded = compiled->load_weights(control);
  compiled->device_->end_loading();
  MOEPP_CHECK(loaded);
  compiled->look_ahead();
  *program = std::move(compiled);
  return {};
}

}  // namespace moepp
