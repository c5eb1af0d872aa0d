// The only interpreter: checks a recorded program once, loads its weights, then runs it step by
// step.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "device.h"
#include "lookup.h"
#include "parallel/group.h"
#include "spec.h"
#include "status.h"

namespace moepp {

using AnyArgs = std::variant<std::monostate
#define MOEPP_COMMA(name, Args) , Args
                                 MOEPP_OPS(MOEPP_COMMA, MOEPP_COMMA)
#undef MOEPP_COMMA
                             >;

// Host memory of one buffer of one run.
struct HostBuffer {
  void* data = nullptr;
  int64_t bytes = 0;
};

// Of a page of the KV cache, every layer.
struct PageCopy {
  int64_t from, to;
};

struct Step {
  Sizes sizes;
  std::map<std::string, HostBuffer> inputs;   // every buffer that nothing writes
  std::map<std::string, HostBuffer> results;  // the outputs and the captured buffers
  std::shared_ptr<KvCache> cache;             // null when no op needs one
  std::vector<PageCopy> copies;               // done in order, before the ops
  Control control;
};

class Program {
 public:
  // Checks names, shapes and dtypes of everything, then loads the weights. `group`: of the ranks
  // that run it together; without one there are no ops between ranks.
  static Status compile(std::shared_ptr<Device> device, const ProgramSpec& spec,
                        const Control& control, std::unique_ptr<Program>* program,
                        std::shared_ptr<parallel::Group> group = nullptr);

  // Runs one step. Not reentrant: the caller holds off a second run. In a group all ranks run it,
  // those without tokens, too. A failure on one ends the group, since the others wait for its rows;
  // for the same reason nothing cancels it.
  Status run(const Step& step);

  // The dtype and the sizes of a buffer that a step returns; false when there is no such buffer.
  bool describe(const std::string& name, const Sizes& sizes, DType* dtype, Shape* shape) const;
  const std::vector<std::string>& outputs() const { return outputs_; }
  int64_t weight_bytes() const { return weight_bytes_; }
  // Of the largest step: its buffers, and the rows that it looked up.
  int64_t step_bytes() const;
  // The buffers that the last step held as bf16 between its ops: for tests.
  std::vector<std::string> bf16_buffers() const;

 private:
  friend class Binder;
  friend class Compiler;

  struct Buffer {
    std::string name;
    DType dtype = DType::kF32;
    Shape shape;
    std::string written_as;  // the writing op's field
    int writer = -1;         // the stage that writes it (ops.h), numbered on; -1: an input
    int last_reader = -1;    // the last stage that reads it
    bool optional = false;   // its op leaves it out when nothing reads it and no result asks for it
    bool or_bf16 = false;    // all of its fields are kF32OrBf16 (ops.h)
    Tensor tensor;           // what the ops point to; filled anew for each run
    void* host = nullptr;    // the caller's memory in this run: of an input or a result
  };

  struct Weight {
    WeightSpec spec;
    std::optional<Layout> layout;  // none: it is only looked up so far
    bool used = false;
    Memory memory;
    Tensor tensor;

    Layout order() const { return layout.value_or(Layout::kRows); }
  };

  struct Instruction {
    std::string label;
    AnyArgs args;
    void (*invoke)(const AnyArgs& args, const Kernels& kernels, Queue& queue) = nullptr;
    std::vector<int> writes;                                 // buffers
    std::vector<int> reads;                                  // buffers
    std::vector<std::pair<Tensor**, int>> optional_outputs;  // field of args, buffer
    std::vector<int> products;                               // weights that it multiplies by
    WeightAhead ahead;

    // True if a step needs nothing of it: all outputs are optional, and none is wanted.
    bool is_idle() const {
      for (const auto& [field, buffer] : optional_outputs) {
        if (*field != nullptr) return false;
      }
      return !writes.empty() && writes.size() == optional_outputs.size();
    }
  };

  // A table in files, and the rows of it that a step reads.
  struct LookedUp {
    Lookup table;
    int rows, out;  // buffers
    std::vector<float> values;
  };

  // The key of a recorded step: everything that the ops' arguments hold. Steps with equal keys may
  // replay one recording.
  struct RecordingKey {
    Sizes sizes;
    KvView cache;
    std::vector<std::pair<const void*, DType>> memory;  // of every buffer

    bool operator==(const RecordingKey& other) const;
  };
  struct SeenStep {
    RecordingKey key;
    std::unique_ptr<Recording> recording;  // null until it comes again
  };

  Status run_alone(const Step& step);
  Status load_weights(const Control& control);
  void look_ahead();
  Status look_up(std::map<std::string, HostBuffer>* inputs, const Sizes& sizes);
  Status bind_step(const Step& step);
  void choose_dtypes();
  void choose_wire();
  Status check_inputs();
  Status plan_memory();
  Status copy_pages(const Step& step);
  Status run_ops(const Step& step);
  void watch(const Instruction& instruction);
  Status enqueue(const Step& step);
  Status enqueue_recorded(const Step& step);
  bool is_cancelled(const Step& step) const {
    return group_ == nullptr && step.control.is_cancelled();
  }

  std::shared_ptr<Device> device_;
  std::shared_ptr<parallel::Group> group_;  // or null
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::map<std::string, int> buffer_index_;
  std::vector<const Tensor*> inputs_;  // the buffers that no op writes
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<std::unique_ptr<Instruction>> instructions_;
  std::vector<LookedUp> lookups_;
  std::vector<std::string> outputs_;
  bool needs_cache_ = false;
  KvView cache_;
  Memory arena_;
  int64_t weight_bytes_ = 0;
  std::vector<SeenStep> seen_steps_;  // of few tokens; the one used last is the last
};

}  // namespace moepp
