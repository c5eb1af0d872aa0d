// The small model with attention, for tests of programs on an emulated GPU.
#pragma once

#include <algorithm>

#include "device_test.h"
#include "small_model.h"

namespace moepp::simt_test {

constexpr int64_t kWidth = 32, kInner = 32, kHeads = 4, kKvHeads = 2, kDim = 8, kPageSize = 16;
constexpr int64_t kColumns = (kHeads + 2 * kKvHeads) * kDim;

using Names = std::vector<std::string>;

inline std::vector<OpSpec>::iterator place_of(ProgramSpec& spec, const std::string& label) {
  return std::find_if(spec.ops.begin(), spec.ops.end(),
                      [&](const OpSpec& op) { return op.label == label; });
}

inline WeightSpec weight_of(WeightSpec like, const std::string& name, int64_t rows) {
  like.name = like.parts[0].name = name;
  like.shape = like.parts[0].shape = {rows, kWidth};
  like.parts[0].strides = {kWidth, 1};
  like.parts[0].byte_length = static_cast<uint64_t>(rows * kWidth) * 4;
  return like;
}

// The small model, with attention in place of each layer's first product.
inline ProgramSpec attending(const std::string& file, DType dtype) {
  ProgramSpec spec = SmallModel(file, kWidth, kInner).spec;
  const WeightSpec like = spec.weights[0];
  const auto buffer = [&](const std::string& name, DType type, Shape shape) {
    spec.buffers.push_back({name, type, std::move(shape)});
    return name;
  };
  for (const char* name : {"cosine", "sine"}) buffer(name, DType::kF32, {kTokens, kDim / 2});
  buffer("positions", DType::kI32, {kTokens});
  buffer("starts", DType::kI32, {kSequencesPlus1});
  buffer("pages", DType::kI32, {kSequences, kPages});
  const std::map<std::string, std::string> places = {
      {"positions", "positions"}, {"sequence_starts", "starts"}, {"page_table", "pages"}};
  for (const char* layer : {"0", "1", "2"}) {
    const auto first = place_of(spec, std::string("linear") + layer);
    const std::string qkv = buffer(std::string("qkv") + layer, DType::kF32, {kTokens, kColumns}),
                      q = buffer(std::string("q") + layer, DType::kF32, {kTokens, kHeads, kDim}),
                      out = buffer(std::string("attended") + layer, DType::kF32, {kTokens, kWidth});
    OpSpec project = *first;
    project.label = "qkv" + std::string(layer);
    project.tensors["weight"] = "wqkv" + std::string(layer), project.tensors["out"] = qkv;
    project.attributes["activation"] = 0;
    spec.weights.push_back(weight_of(like, project.tensors["weight"], kColumns));
    OpSpec rope = {"rope_store",
                   "rope" + std::string(layer),
                   places,
                   {{"layer", *layer - '0'}, {"eps", 0}, {"interleaved", 0}}};
    rope.tensors.insert({{"qkv", qkv}, {"cosine", "cosine"}, {"sine", "sine"}, {"q", q}});
    OpSpec attention = {"attention",
                        "attention" + std::string(layer),
                        places,
                        {{"layer", *layer - '0'}, {"scale", 0.35}, {"window", 0}}};
    attention.tensors.insert({{"q", q}, {"out", out}});
    first->tensors["x"] = out;
    spec.ops.insert(first, {project, rope, attention});
  }
  for (WeightSpec& weight : spec.weights) {
    if (is_matrix(weight)) weight.dtype = dtype;
  }
  return spec;
}

// Every buffer that an op writes, but the output.
inline Names written(const ProgramSpec& spec) {
  const Names others = {"tokens",    "rows",   "cosine", "sine",
                        "positions", "starts", "pages",  "logits"};
  Names names;
  for (const BufferSpec& buffer : spec.buffers) {
    if (std::find(others.begin(), others.end(), buffer.name) == others.end())
      names.push_back(buffer.name);
  }
  return names;
}

}  // namespace moepp::simt_test
