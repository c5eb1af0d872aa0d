// Program::compile: binds every op's fields to buffers and weights, and checks names, shapes,
// dtypes and order.
#include "binder.h"
#include "letters.h"
#include "program.h"
#include "weights/quantise.h"

namespace moepp {

// The fault of a weight that ops read in this order, in words that follow its name, or "".
static std::string broken_weight(const WeightSpec& spec, Layout order) {
  for (const int64_t size : spec.shape) {
    if (size < 0) return ": its shape must be known";
  }
  if (!is_quantised(spec.dtype)) return {};
  const std::string dtype = dtype_name(spec.dtype);
  if (order == Layout::kRows)
    return " is " + dtype + ", but no linear or grouped_gemm reads it; expected f32 or bf16";
  if (spec.shape.back() >= 1 && spec.shape.back() <= kMostQuantisedInputs) return {};
  return " is " + shape_text(spec.shape) + " " + dtype + ", expected rows of 1 to " +
         std::to_string(kMostQuantisedInputs) + " elements";
}

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

template <class Args>
Status Compiler::bind(const OpSpec& op, Program::Instruction& instruction, Args& args) {
  Binder binder(program_, weight_index_, spec_.compute, op, instruction);
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
