// Whole layers and decode steps as lists of ops, in program order (lib/model), on random weights.
#pragma once

#include <deque>

#include "bench.h"

namespace moepp::bench {

// Ops that are put into the queue one behind the other.
class Step {
 public:
  explicit Step(Run& run) : run(run) {}
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  // `check` compares the op's arguments, in host memory, with its reference, if `checked`.
  // `rounded`: the op's output that a GEMM reads.
  template <class Args, class Check>
  void add(const std::string& name, void (*kernel)(const Args&, Queue&), const Args& args,
           bool checked, const Check& check, Floats* rounded = nullptr) {
    std::function<std::string()> checks;
    if (checked) checks = [this, check, args] { return check(run.on_host(args)); };
    ops_.push_back({name, [this, kernel, args] { kernel(args, run.device().queue()); }, checks,
                    checked ? rounded : nullptr});
  }
  // Rows [row, row + count) of a tensor; it lives as long as the step.
  Tensor* rows(const Tensor& tensor, int64_t row, int64_t count);
  // One of the copies of a weight, likewise.
  Tensor* copy(const Weight& weight, int64_t i);

  void enqueue() const;
  // Runs the ops one at a time and checks each. Describes the fault; empty if there is none.
  // Results named in `rounded` are rounded before the next op.
  std::string check();
  // Runs the ops one behind the other, where a kernel may start before the one ahead of it has
  // ended. Then it runs them one at a time. Names the results whose bits differ; empty if none do.
  std::string check_order(const std::vector<const Floats*>& results);

  Run& run;

 private:
  struct Op {
    std::string name;
    std::function<void()> enqueue;
    std::function<std::string()> check;
    Floats* rounded;
  };
  std::vector<Op> ops_;
  std::deque<Tensor> tensors_;
};

// bf16 weights of the MoE layers. Experts differ between layers in nothing but where they lie;
// routers differ.
struct MoeWeights {
  MoeWeights(Run& run, int64_t layers);
  Weight gate_up, down;
  Floats norm, router, map, constant_router, constants;
};

// The arrays of the MoE layers of a step of t tokens. Rows of `offsets` are each layer's own.
struct MoeBuffers {
  MoeBuffers(Run& run, int64_t t, int64_t layers);
  int64_t tokens;
  Floats sum, normed, logits, previous, scores, weights, coefficients, hidden, expert_out, x, y;
  Ints indices, offsets, order, rows;

  struct Routed {
    int64_t experts = 0, rows = 0;  // FFN experts that have rows, and the rows, of all layers
  };
  Routed routed(Run& run) const;
};

// norm_route_top_k of x + delta, gate_up with SwiGLU, down with combine: y and the hidden state x
// of the next layer. Layers above 0 add what the map makes of the layer before's logits. `before`:
// the product that makes delta, or null if delta is there.
void add_moe_layer(Step& step, const MoeWeights& weights, MoeBuffers& buffers, int64_t layer,
                   const Tensor& x, const Tensor& delta, bool checked,
                   const LinearArgs* before = nullptr);

// Some elements of a product.
std::string check_some(const LinearArgs& args);

// Bytes of one FFN expert on the run's device, and operations of one token in it.
double expert_bytes(Run& run, const MoeWeights& weights);
double expert_flops(const Sizes& sizes);

// The weights of a decode step of so many layers.
struct DecodeWeights {
  DecodeWeights(Run& run, int64_t layers);
  int64_t layers;
  MoeWeights moe;
  Weight qkv, o, head;
  Floats table;
};

// One new token for each of `batch` sequences, after which each has `context`: from the embedding
// to the top logits.
class DecodeStep {
 public:
  DecodeStep(Run& run, const DecodeWeights& weights, int64_t batch, int64_t context);
  // Each op against its reference, then their order.
  std::string check();
  std::string check_order() { return step_.check_order({&moe_.x, &logits_, &top_, &exp_sum_}); }
  void enqueue() const { step_.enqueue(); }
  // Bytes of weights and cache that a step must read, and operations. Call it after one has run.
  Row row() const;

 private:
  // Returns the projection of its result, which add_moe_layer takes along.
  LinearArgs add_attention(int64_t layer);

  Run& run_;
  const DecodeWeights& weights_;
  int64_t context_;
  test::PagedStep paged_;
  PagedInts ints_;
  Cache cache_;
  MoeBuffers moe_;
  Floats frequencies_, cosine_, sine_, qkv_, q_, attended_, delta_, last_, logits_, top_, exp_sum_;
  Ints tokens_, rows_, top_indices_;
  Step step_;
};

}  // namespace moepp::bench
