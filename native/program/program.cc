// Program: loading the weights, planning memory, running a step.
#include "program.h"

#include <algorithm>
#include <new>
#include <tuple>

#include "weights/packed_weights.h"

namespace moepp {

constexpr int64_t kAlignment = 64;

static int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Status Program::load_weights(const Control& control) {
  std::map<std::string, std::shared_ptr<MappedFile>> files;
  for (const auto& weight : weights_) {
    const Layout layout = weight->order();
    const int64_t bytes = device_->weight_bytes(weight->spec, layout);
    if (is_packed(weight->spec)) {
      Memory packed;
      MOEPP_CHECK(open_packed(*device_, weight->spec, layout, &files, &packed));
      if (device_->uses_mapped_weights()) {
        weight->memory = std::move(packed);
        control.add(bytes);
      } else {
        MOEPP_CHECK(Memory::allocate(device_, bytes, weight->spec.name, &weight->memory));
        MOEPP_CHECK(device_->load_packed(weight->spec, layout, packed.data(), weight->memory.data(),
                                         control));
      }
    } else {
      MOEPP_CHECK(Memory::allocate(device_, bytes, weight->spec.name, &weight->memory));
      MOEPP_CHECK(device_->load_weight(weight->spec, layout, weight->memory.data(), control));
    }
    weight->tensor.data = weight->memory.data();
    weight->tensor.layout = layout;
    weight_bytes_ += bytes;
  }
  return {};
}

// Tells each instruction the dense weight that comes after it.
void Program::look_ahead() {
  WeightAhead ahead;
  for (size_t i = instructions_.size(); i-- > 0;) {
    Instruction& instruction = *instructions_[i];
    instruction.ahead = ahead;
    for (const int index : instruction.products) {
      const Memory& memory = weights_[index]->memory;
      const Shape& shape = weights_[index]->spec.shape;
      if (shape.size() == 2) {
        ahead = {memory.data(), memory.bytes(), 0};
      } else if (shape[0] > 0) {
        const int64_t picks = buffers_[instruction.writes[0]]->shape[1];  // out: [T, K, F]
        ahead.bytes_before += memory.bytes() / shape[0] * std::min(picks, shape[0]);
      }
    }
  }
}

int64_t Program::step_bytes() const {
  int64_t bytes = arena_.bytes();
  for (const LookedUp& lookup : lookups_)
    bytes += static_cast<int64_t>(lookup.values.capacity() * sizeof(float));
  return bytes;
}

bool Program::describe(const std::string& name, const Sizes& sizes, DType* dtype,
                       Shape* shape) const {
  const auto found = buffer_index_.find(name);
  if (found == buffer_index_.end()) return false;
  *dtype = buffers_[found->second]->dtype;
  *shape = buffers_[found->second]->shape;
  for (int64_t& size : *shape) size = sizes.resolve(size);
  return true;
}

// Gives every buffer its sizes, and the inputs and results their host memory.
Status Program::bind_step(const Step& step) {
  std::map<std::string, HostBuffer> inputs = step.inputs;
  MOEPP_CHECK(look_up(&inputs, step.sizes));
  for (const auto& buffer : buffers_) {
    Tensor& tensor = buffer->tensor;
    tensor.dtype = buffer->dtype;
    for (int i = 0; i < tensor.rank; i++) tensor.shape[i] = step.sizes.resolve(buffer->shape[i]);
    tensor.data = buffer->host = nullptr;
    const bool is_input = buffer->writer < 0;
    const auto& given = is_input ? inputs : step.results;
    const auto found = given.find(buffer->name);
    if (found == given.end()) {
      if (is_input && buffer->last_reader >= 0)
        return Status::error(Code::kBadProgram, "input " + buffer->name + " is missing");
      continue;
    }
    const int64_t bytes = tensor.elements() * dtype_size(tensor.dtype);
    if (found->second.bytes != bytes) {
      return Status::error(Code::kBadProgram, buffer->name + " has " +
                                                  std::to_string(found->second.bytes) +
                                                  " bytes, expected " + std::to_string(bytes));
    }
    tensor.data = buffer->host = found->second.data;
  }
  for (const auto& instruction : instructions_) {
    for (const auto& [field, index] : instruction->optional_outputs) {
      Buffer& buffer = *buffers_[index];
      *field = buffer.last_reader >= 0 || buffer.tensor.data != nullptr ? &buffer.tensor : nullptr;
    }
  }
  choose_dtypes();
  choose_wire();
  cache_ = step.cache ? step.cache->view() : KvView{};
  if (needs_cache_ && !step.cache)
    return Status::error(Code::kBadProgram, "the program needs a kv cache");
  return {};
}

// True if the op, or a part of it, is a product that rounds its input.
template <class Args>
static bool rounds(const Device& device, Args& args) {
  if constexpr (std::is_same_v<Args, LinearArgs> || std::is_same_v<Args, GroupedGemmArgs>) {
    return device.reads_bf16(args);
  } else if constexpr (kIsFused<Args>) {
    bool any = false;
    args.parts([&](auto& part, int) { any = any || rounds(device, part); });
    return any;
  } else {
    return false;
  }
}

// A buffer between an op and products is bf16 if the device rounds it for each of them. A result
// never is. Kernels depend on the step's sizes, and so does the answer: with one type for all
// steps, decode would get the rounding of prefill.
void Program::choose_dtypes() {
  for (const auto& buffer : buffers_) {
    if (buffer->or_bf16 && buffer->last_reader >= 0 && buffer->host == nullptr)
      buffer->tensor.dtype = DType::kBf16;
  }
  for (const auto& instruction : instructions_) {
    if (std::visit([&](auto& args) { return rounds(*device_, args); }, instruction->args)) continue;
    for (const int index : instruction->reads)
      buffers_[index]->tensor.dtype = buffers_[index]->dtype;
  }
}

// Rows go to other ranks as bf16 where every product that reads them rounds them.
void Program::choose_wire() {
  for (const auto& instruction : instructions_) {
    auto* dispatch = std::get_if<DispatchTokensArgs>(&instruction->args);
    if (dispatch == nullptr) continue;
    dispatch->sends_bf16 = true;
    for (const auto& other : instructions_) {
      const bool reads = std::any_of(other->reads.begin(), other->reads.end(), [&](int index) {
        return &buffers_[index]->tensor == dispatch->rows;
      });
      const auto* product = std::get_if<GroupedGemmArgs>(&other->args);
      if (reads && (product == nullptr || !device_->rounds_x(*product)))
        dispatch->sends_bf16 = false;
    }
  }
}

std::vector<std::string> Program::bf16_buffers() const {
  std::vector<std::string> names;
  for (const auto& buffer : buffers_) {
    if (buffer->tensor.dtype != buffer->dtype) names.push_back(buffer->name);
  }
  return names;
}

// Places buffers in the arena: each from the stage that writes it to the last that reads it. It
// takes the first gap that is large enough. Inputs and results that are copied come first, for the
// whole step. Others lie in the caller's memory.
Status Program::plan_memory() {
  struct Placed {
    int64_t begin, end;
    int last_use;
    Tensor* tensor;
  };
  std::vector<Placed> live, all;
  int64_t arena_bytes = 0;
  const int64_t gap = device_->watched_gap();
  const auto bytes_of = [gap](const Buffer& buffer) {
    return aligned(buffer.tensor.elements() * dtype_size(buffer.tensor.dtype)) + gap;
  };
  if (!device_->uses_callers_memory()) {
    for (const bool inputs : {true, false}) {
      for (const auto& buffer : buffers_) {
        if (buffer->host == nullptr || (buffer->writer < 0) != inputs) continue;
        all.push_back({arena_bytes, arena_bytes + bytes_of(*buffer), 0, &buffer->tensor});
        arena_bytes = all.back().end;
      }
    }
  }
  const int64_t first = arena_bytes;
  for (const auto& instruction : instructions_) {
    for (const int index : instruction->writes) {
      Buffer& buffer = *buffers_[index];
      if (buffer.host != nullptr) continue;                     // a result
      if (buffer.optional && buffer.last_reader < 0) continue;  // not wanted
      const int stage = buffer.writer;
      live.erase(std::remove_if(live.begin(), live.end(),
                                [&](const Placed& p) { return p.last_use < stage; }),
                 live.end());
      const int64_t bytes = bytes_of(buffer);
      int64_t begin = first;
      auto place = live.begin();
      for (; place != live.end() && place->begin - begin < bytes; ++place) begin = place->end;
      const Placed placed = {begin, begin + bytes, std::max(buffer.last_reader, stage),
                             &buffer.tensor};
      live.insert(place, placed);  // live stays sorted by begin
      all.push_back(placed);
      arena_bytes = std::max(arena_bytes, placed.end);
    }
  }
  if (arena_bytes > arena_.bytes()) {
    seen_steps_.clear();  // their recordings point into the old arena
    MOEPP_CHECK(Memory::allocate(device_, arena_bytes, "step memory", &arena_));
  }
  for (const Placed& placed : all) placed.tensor->data = arena_.data() + placed.begin;
  return {};
}

// The first fault of a step's integers for the op or for one of its parts; "" if there is none.
template <class Args>
static std::string fault_of(Args& args, StepInputs& inputs) {
  if constexpr (kIsFused<Args>) {
    std::string fault;
    args.parts([&](auto& part, int) {
      if (fault.empty()) fault = step_fault(part, inputs);
    });
    return fault;
  } else {
    return step_fault(args, inputs);
  }
}

// Checks the integers that the step brings, while the inputs are still in the caller's memory.
Status Program::check_inputs() {
  StepInputs inputs([this](const Tensor* tensor) {
    return std::find(inputs_.begin(), inputs_.end(), tensor) != inputs_.end();
  });
  for (const auto& instruction : instructions_) {
    const std::string fault =
        std::visit([&](auto& args) { return fault_of(args, inputs); }, instruction->args);
    if (!fault.empty())
      return Status::error(Code::kBadProgram, instruction->label + ": " + fault,
                           instruction->label);
  }
  return {};
}

Status Program::copy_pages(const Step& step) {
  if (!step.copies.empty() && !step.cache)
    return Status::error(Code::kBadProgram, "copying pages needs a kv cache");
  for (const PageCopy& copy : step.copies) {
    if (is_cancelled(step)) return Status::error(Code::kAborted, "the run was cancelled");
    MOEPP_CHECK(step.cache->copy_page(copy.from, copy.to));
  }
  return {};
}

Status Program::run(const Step& step) {
  if (group_ == nullptr) return run_alone(step);
  MOEPP_CHECK(group_->fault());
  Status status;
  try {
    status = run_alone(step);
  } catch (const std::bad_alloc&) {
    status = Status::error(Code::kOutOfMemory, "out of memory");
  }
  if (!status.ok() && group_->fault().ok()) group_->fail(status);
  return status;
}

Status Program::run_alone(const Step& step) {
  if (step.sizes.tokens < (group_ == nullptr ? 1 : 0))
    return Status::error(Code::kBadProgram, "a step needs at least one token");
  MOEPP_CHECK(bind_step(step));
  MOEPP_CHECK(check_inputs());
  MOEPP_CHECK(plan_memory());
  MOEPP_CHECK(copy_pages(step));
  return run_ops(step);
}

// Tells a device that watches memory what the op touches.
void Program::watch(const Instruction& instruction) {
  OpMemory memory = {{arena_.data(), arena_.bytes()}, {}, {}};
  const auto add = [this](const std::vector<int>& indices, std::vector<Piece>* pieces) {
    for (const int index : indices) {
      const Tensor& tensor = buffers_[index]->tensor;
      if (tensor.data == nullptr) continue;  // not wanted
      pieces->push_back(
          {static_cast<std::byte*>(tensor.data), tensor.elements() * dtype_size(tensor.dtype)});
    }
  };
  add(instruction.reads, &memory.reads);
  add(instruction.writes, &memory.writes);
  device_->watch(memory);
}

Status Program::enqueue(const Step& step) {
  const Kernels& kernels = device_->kernels();
  for (const auto& instruction : instructions_) {
    if (is_cancelled(step))
      return Status::error(Code::kAborted, "the run was cancelled", instruction->label);
    if (instruction->is_idle()) continue;
    if (device_->watched_gap() > 0) watch(*instruction);
    device_->look_ahead(instruction->ahead);
    instruction->invoke(instruction->args, kernels, device_->queue());
    Status status = device_->launched();
    if (status.ok() && group_ != nullptr) status = group_->fault();
    if (!status.ok()) {
      status.op = instruction->label;
      status.message = instruction->label + ": " + status.message;
      return status;
    }
  }
  // Results may be anywhere. In the queue, as a replay of this calls watch() no more.
  const Piece all = {arena_.data(), arena_.bytes()};
  if (device_->watched_gap() > 0) device_->watch({all, {all}, {}});
  return {};
}

bool Program::RecordingKey::operator==(const RecordingKey& other) const {
  const auto numbers = [](const RecordingKey& k) {
    return std::make_tuple(k.sizes.tokens, k.sizes.rows, k.sizes.sequences, k.sizes.pages,
                           k.sizes.received, k.cache.data, k.cache.dtype, k.cache.layers,
                           k.cache.pages, k.cache.page_size, k.cache.kv_heads, k.cache.key_dim,
                           k.cache.value_dim);
  };
  return numbers(*this) == numbers(other) && memory == other.memory;
}

// Steps of few tokens come again and again with the same sizes. The time to hand over their kernels
// one by one would show, so they are replayed. A step of many tokens is long enough to hide it.
// Recording takes longer than one replay saves. So only sizes that come a second time are recorded:
// chunks of prompts have sizes of their own. Decoding has few, because it is padded
// (lib/model/padding.ts).
Status Program::enqueue_recorded(const Step& step) {
  constexpr int64_t kRecordedTokens = 64;
  constexpr size_t kSeenSteps = 64;  // 15 sizes of decoding, at four widths of the page table
  if (step.sizes.tokens > kRecordedTokens) return enqueue(step);
  RecordingKey key = {step.sizes, cache_, {}};
  for (const auto& buffer : buffers_)
    key.memory.push_back({buffer->tensor.data, buffer->tensor.dtype});
  const auto seen = std::find_if(seen_steps_.begin(), seen_steps_.end(),
                                 [&](const SeenStep& s) { return s.key == key; });
  if (seen == seen_steps_.end()) {
    if (seen_steps_.size() >= kSeenSteps) seen_steps_.erase(seen_steps_.begin());
    seen_steps_.push_back({std::move(key), nullptr});
    return enqueue(step);
  }
  std::rotate(seen, seen + 1, seen_steps_.end());
  std::unique_ptr<Recording>& recording = seen_steps_.back().recording;
  if (recording == nullptr) {
    MOEPP_CHECK(device_->record([&] { return enqueue(step); }, &recording));
    if (recording == nullptr) return {};  // it ran
  }
  return device_->replay(*recording);
}

Status Program::run_ops(const Step& step) {
  std::vector<Transfer> inputs, results;
  for (const auto& buffer : buffers_) {
    if (buffer->host == nullptr || device_->uses_callers_memory()) continue;
    const int64_t bytes = buffer->tensor.elements() * dtype_size(buffer->tensor.dtype);
    (buffer->writer < 0 ? inputs : results).push_back({buffer->tensor.data, buffer->host, bytes});
  }
  MOEPP_CHECK(device_->begin_step());
  Status status = inputs.empty() ? Status() : device_->upload(inputs);
  if (status.ok()) status = device_->runs_at_once() ? enqueue(step) : enqueue_recorded(step);
  if (status.ok() && !results.empty()) status = device_->download(results);
  // after a failure as well: nothing may be in flight when memory goes
  const Status end = device_->end_step();
  return status.ok() ? end : status;
}

}  // namespace moepp
