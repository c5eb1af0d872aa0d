// The visitor that connects one recorded op with the buffers and weights of its program.
#pragma once

#include "letters.h"
#include "parallel/group.h"
#include "program.h"

namespace moepp {

// Visits one op's fields and points them to what the recorded op names.
class Binder {
 public:
  // `weights`: the index of each by its name. `stage`: the op's place in the program.
  Binder(Program& program, const std::map<std::string, int>& weights, Compute compute,
         const OpSpec& op, Program::Instruction& instruction, int stage)
      : program_(program),
        weights_(weights),
        compute_(compute),
        op_(op),
        instruction_(instruction),
        stage_(stage) {}

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

  // The group is the program's own and is not named either.
  void ranks(Ranks& target) {
    parallel::Group* group = program_.group_.get();
    if (group == nullptr) return fail(op_.op + " needs a group of ranks");
    target = {group, group->size(), group->rank()};
  }

  void attribute(const char* field, float& target) { target = static_cast<float>(number(field)); }
  void attribute(const char* field, int32_t& target) {
    target = static_cast<int32_t>(number(field));
  }
  void attribute(const char* field, bool& target) { target = number(field) != 0; }
  void may_round(bool& target) { target = compute_ == Compute::kBf16; }
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

  void attribute(const char* field, std::vector<int32_t>& target) {
    for (const double given : numbers(field)) {
      target.push_back(small_integer(given, kMostExperts - 1));
      if (target.back() < 0)
        return fail(std::string(field) + " must be integers from 0 to " +
                    std::to_string(kMostExperts - 1));
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
    buffer.last_reader = stage_;
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
    buffer.writer = stage_;
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
    const int index = find(field, weights_, "weight", optional);
    if (index < 0) return;
    Program::Weight& weight = *program_.weights_[index];
    // Vectors and small matrices in rows are f32.
    const DType dtype = weight.spec.dtype;
    const bool narrow = (dtype == DType::kBf16 || is_blocked(dtype)) && layout != Layout::kRows;
    check(field, weight.spec.name, weight.spec.shape, dtype, shape, narrow ? dtype : DType::kF32);
    if (layout.has_value() && weight.layout.value_or(*layout) != *layout)
      return fail(weight.spec.name + " is used in two layouts");
    if (layout.has_value()) weight.layout = layout;
    if (layout.value_or(Layout::kRows) != Layout::kRows) instruction_.products.push_back(index);
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
    const bool fits = number >= 0 && number <= most && number == static_cast<int>(number);
    return fits ? static_cast<int>(number) : -1;
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

  Program& program_;
  const std::map<std::string, int>& weights_;
  const Compute compute_;
  const OpSpec& op_;
  Program::Instruction& instruction_;
  const int stage_;
  Letters letters_;
  size_t used_ = 0;
  int route_writer_ = -1;
  Status status_;
};

}  // namespace moepp
