// The small model as the ranks of a group run it.
#pragma once

#include "ranks.h"
#include "small_model.h"

namespace moepp::test {

// The experts of a stack that a rank holds, in its order.
inline void cut_experts(WeightSpec* weight, const std::vector<int32_t>& held) {
  const TensorRef all = weight->parts[0];
  const uint64_t bytes = all.byte_length / static_cast<uint64_t>(all.shape[0]);
  weight->shape[0] = static_cast<int64_t>(held.size());
  weight->parts.clear();
  for (const int32_t expert : held) {
    TensorRef part = all;
    part.shape[0] = 1;
    part.byte_offset += static_cast<uint64_t>(expert) * bytes;
    part.byte_length = bytes;
    weight->parts.push_back(part);
  }
}

inline std::vector<double> numbers(const std::vector<int32_t>& list) {
  return {list.begin(), list.end()};
}

// The model as one rank runs it: its own experts, and the ops between ranks around their products.
inline ProgramSpec on_rank(ProgramSpec spec, const Placement& placement, size_t rank) {
  const std::vector<int32_t>& held = placement.held[rank];
  const auto ranks = static_cast<int64_t>(placement.held.size());
  for (WeightSpec& weight : spec.weights) {
    if (weight.name.rfind("gate_up", 0) == 0 || weight.name.rfind("down_proj", 0) == 0)
      cut_experts(&weight, held);
  }
  std::vector<OpSpec> ops;
  for (OpSpec op : spec.ops) {
    const std::string layer = op.label.substr(op.label.size() - 1);
    const auto name = [&](const char* of) { return of + layer; };
    if (op.label.rfind("up", 0) == 0) {
      const auto made = [&](const char* of, DType dtype, Shape shape) {
        spec.buffers.push_back({name(of), dtype, std::move(shape)});
        return name(of);
      };
      ops.push_back({"dispatch_tokens",
                     name("dispatch"),
                     {{"x", op.tensors["x"]},
                      {"expert_indices", name("indices")},
                      {"expert_rows", name("expert_rows")},
                      {"rows", made("rows_", DType::kF32, {kReceived, kHidden})},
                      {"expert_offsets",
                       made("offsets_", DType::kI32, {static_cast<int64_t>(held.size()) + 1})},
                      {"token_order", made("order_", DType::kI32, {kReceived, kChosen})},
                      {"sent_picks", made("sent", DType::kI32, {kTokens, kChosen})},
                      {"sent_offsets", made("sent_offsets", DType::kI32, {ranks + 1})},
                      {"received_picks", made("received", DType::kI32, {kReceived, kChosen})},
                      {"received_offsets", made("received_offsets", DType::kI32, {ranks + 1})}},
                     {{"experts", {0, 3, 1, 2, 2, 1, 3, 1}},
                      {"destinations", Attribute(numbers(placement.destinations[rank]))},
                      {"held", Attribute(numbers(held))}}});
      op.tensors["x"] = name("rows_"), op.tensors["token_order"] = name("order_");
    }
    const bool is_product = op.op == "grouped_gemm";
    if (is_product) op.tensors["expert_offsets"] = name("offsets_");
    const std::string out = is_product ? op.tensors["out"] : "";
    ops.push_back(op);
    for (BufferSpec& buffer : spec.buffers)
      if (is_product && buffer.name == out) buffer.shape[0] = kReceived;
    if (op.label.rfind("down", 0) != 0) continue;
    spec.buffers.push_back({name("collected"), DType::kF32, {kTokens, kChosen, kHidden}});
    ops.push_back({"collect_tokens",
                   name("collect"),
                   {{"received_out", out},
                    {"sent_picks", name("sent")},
                    {"sent_offsets", name("sent_offsets")},
                    {"received_picks", name("received")},
                    {"received_offsets", name("received_offsets")},
                    {"expert_out", name("collected")}},
                   {}});
  }
  for (OpSpec& op : ops)
    if (op.op == "combine") op.tensors["expert_out"] = "collected" + op.label.substr(7);
  spec.ops = std::move(ops);
  return spec;
}

// The step of a rank: other tokens on each, and all rows' logits.
inline SmallStep step_of(const Program& program, int rank, int64_t tokens, int64_t all,
                         const std::vector<std::string>& capture = {}) {
  SmallStep small(program, tokens, capture);
  for (int32_t& token : small.tokens) token = (token + 5 * rank) % kVocabulary;
  small.step.sizes.received = all;
  if (tokens == 0) small.step.sizes.sequences = 0;
  return small;
}

}  // namespace moepp::test
