// Program: loading the weights, planning memory, running a step.
#include "program.h"

#include <algorithm>

#include "check_data.h"

namespace moepp {

constexpr int64_t kAlignment = 64;

static int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Status Program::load_weights(const Control& control) {
  for (const auto& weight : weights_) {
    const int64_t bytes = device_->weight_bytes(weight->spec, weight->layout);
    MOEPP_CHECK(Memory::allocate(device_, bytes, weight->spec.name, &weight->memory));
    MOEPP_CHECK(device_->load_weight(weight->spec, weight->layout, weight->memory.data(), control));
    weight->tensor.data = weight->memory.data();
    weight->tensor.layout = weight->layout;
    weight_bytes_ += bytes;
  }
  return {};
}

bool Program::describe(const std::string& name, const Sizes& sizes, DType* dtype, Shape* shape) const {
  const auto found = buffer_index_.find(name);
  if (found == buffer_index_.end()) return false;
  *dtype = buffers_[found->second]->dtype;
  *shape = buffers_[found->second]->shape;
  for (int64_t& size : *shape) size = sizes.resolve(size);
  return true;
}

// Gives every buffer its sizes, and the inputs and results their host memory.
Status Program::bind_step(const Step& step) {
  for (const auto& buffer : buffers_) {
    Tensor& tensor = buffer->tensor;
    for (int i = 0; i < tensor.rank; i++) tensor.shape[i] = step.sizes.resolve(buffer->shape[i]);
    tensor.data = nullptr;
    const bool is_input = buffer->writer < 0;
    const auto& given = is_input ? step.inputs : step.results;
    const auto found = given.find(buffer->name);
    if (found == given.end()) {
      if (is_input && buffer->last_reader >= 0) return Status::error(Code::kBadProgram, "input " + buffer->name + " is missing");
      continue;
    }
    const int64_t bytes = tensor.elements() * dtype_size(tensor.dtype);
    if (found->second.bytes != bytes) {
      return Status::error(Code::kBadProgram, buffer->name + " has " + std::to_string(found->second.bytes) + " bytes, expected " +
                                                  std::to_string(bytes));
    }
    tensor.data = found->second.data;
  }
  for (const auto& instruction : instructions_) {
    for (const auto& [field, index] : instruction->optional_outputs) {
      Buffer& buffer = *buffers_[index];
      *field = buffer.last_reader >= 0 || buffer.tensor.data != nullptr ? &buffer.tensor : nullptr;
    }
  }
  cache_ = step.cache ? step.cache->view() : KvView{};
  if (needs_cache_ && !step.cache) return Status::error(Code::kBadProgram, "the program needs a kv cache");
  return {};
}

// Places every other written buffer in the arena: each from the op that writes it to the last that reads it, in the first
// gap that is large enough.
Status Program::plan_memory(const Step& step) {
  struct Placed {
    int64_t begin, end;
    int last_use;
    Tensor* tensor;
  };
  std::vector<Placed> live, all;
  int64_t arena_bytes = 0;
  for (size_t i = 0; i < instructions_.size(); i++) {
    const int op = static_cast<int>(i);
    live.erase(std::remove_if(live.begin(), live.end(), [&](const Placed& p) { return p.last_use < op; }), live.end());
    for (const int index : instructions_[i]->writes) {
      Buffer& buffer = *buffers_[index];
      if (buffer.tensor.data != nullptr) continue;              // a result: it lies in the caller's memory
      if (buffer.optional && buffer.last_reader < 0) continue;  // not wanted
      const int64_t bytes = aligned(buffer.tensor.elements() * dtype_size(buffer.tensor.dtype));
      int64_t begin = 0;
      auto place = live.begin();
      for (; place != live.end() && place->begin - begin < bytes; ++place) begin = place->end;
      const Placed placed = {begin, begin + bytes, std::max(buffer.last_reader, op), &buffer.tensor};
      live.insert(place, placed);  // live stays sorted by begin
      all.push_back(placed);
      arena_bytes = std::max(arena_bytes, placed.end);
    }
  }
  if (arena_bytes > arena_.bytes()) MOEPP_CHECK(Memory::allocate(device_, arena_bytes, "step memory", &arena_));
  for (const Placed& placed : all) placed.tensor->data = arena_.data() + placed.begin;
  return {};
}

Status Program::run(const Step& step) {
  if (step.sizes.tokens < 1) return Status::error(Code::kBadProgram, "a step needs at least one token");
  MOEPP_CHECK(bind_step(step));
  MOEPP_CHECK(plan_memory(step));
  DataChecker checker(
      [this](const Tensor* tensor) { return std::find(inputs_.begin(), inputs_.end(), tensor) != inputs_.end(); });
  for (const auto& instruction : instructions_) {
    const std::string fault = checker.fault(instruction->args);
    if (!fault.empty()) return Status::error(Code::kBadProgram, instruction->label + ": " + fault, instruction->label);
  }
  const Kernels& kernels = device_->kernels();
  for (const auto& instruction : instructions_) {
    if (step.control.is_cancelled()) return Status::error(Code::kAborted, "the run was cancelled", instruction->label);
    instruction->invoke(instruction->args, kernels, device_->queue());
  }
  return {};
}

}  // namespace moepp
