// A small recorded program over every kind of op but attention, with weights in a temporary file:
// what the tests of the interpreter run.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "program/program.h"

namespace moepp::test {

// A file of random f32 values that is removed when the object goes.
class TemporaryFile {
 public:
  explicit TemporaryFile(int64_t floats) {
    char path[] = "/tmp/moepp-test-XXXXXX";
    const int fd = mkstemp(path);
    path_ = path;
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.0f, 0.5f);
    std::vector<float> values(static_cast<size_t>(floats));
    for (float& value : values) value = normal(random);
    const ssize_t bytes = static_cast<ssize_t>(values.size() * sizeof(float));
    if (fd < 0 || write(fd, values.data(), static_cast<size_t>(bytes)) != bytes) std::abort();
    close(fd);
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr int64_t kHidden = 20, kVocabulary = 37, kExperts = 7, kFfnExperts = 3, kFfn = 12,
                  kChosen = 2;

// True of the model's weights that GEMMs read.
inline bool is_matrix(const WeightSpec& weight) {
  return weight.name == "table" || weight.name[0] == 'w' || weight.name.rfind("gate_up", 0) == 0 ||
         weight.name.rfind("down", 0) == 0;
}

class SmallModel {
 public:
  explicit SmallModel(const std::string& file, int64_t hidden = kHidden, int64_t ffn = kFfn)
      : file_(file), hidden_(hidden), ffn_(ffn) {
    const int64_t h = hidden_;
    buffer("tokens", DType::kI32, {kTokens});
    buffer("rows", DType::kI32, {kRows});
    buffer("x0", DType::kF32, {kTokens, h});
    op("embedding", "embedding",
       {{"tokens", "tokens"}, {"table", weight("table", {kVocabulary, h})}, {"out", "x0"}},
       {{"scale", 1}});
    std::string x = "x0", previous;
    buffer("y0", DType::kF32, {kTokens, h});
    op("rms_norm", "norm", {{"x", x}, {"weight", weight("norm", {h})}, {"out", "y0"}},
       {{"eps", 1e-6}});
    std::string y = "y0";
    for (int layer = 0; layer < 3; layer++) add_layer(std::to_string(layer), &x, &y, &previous);
    buffer("last", DType::kF32, {kRows, h});
    op("gather_rows", "gather", {{"x", y}, {"rows", "rows"}, {"out", "last"}});
    buffer("logits", DType::kF32, {kRows, kVocabulary});
    op("linear", "head", {{"x", "last"}, {"weight", "table"}, {"out", "logits"}},
       {{"activation", 0}});
    spec.outputs = {"logits"};
  }

  ProgramSpec spec;

  static int64_t floats() { return 40000; }

 private:
  void add_layer(const std::string& layer, std::string* x, std::string* y, std::string* previous) {
    const int64_t h = hidden_;
    const std::string in_y = *y;
    const auto made = [&](const std::string& name, DType dtype, Shape shape) {
      buffer(name + layer, dtype, shape);
      return name + layer;
    };
    const std::string mixed = made("mixed", DType::kF32, {kTokens, h});
    op("linear", "linear" + layer,
       {{"x", in_y}, {"weight", weight("w" + layer, {h, h})}, {"out", mixed}}, {{"activation", 1}});
    const std::string sum = made("sum", DType::kF32, {kTokens, h}),
                      z = made("z", DType::kF32, {kTokens, h});
    std::map<std::string, std::string> router = {
        {"router", weight("router" + layer, {kExperts, layer == "1" ? 8 : h})},
        {"constant_router", weight("constant_router" + layer, {4, h})},
        {"logits", made("router_logits", DType::kF32, {kTokens, kExperts})},
        {"constant_scores", made("scores", DType::kF32, {kTokens, 4})}};
    if (!previous->empty()) {
      router["previous_logits"] = *previous;
      router["residual_map"] = weight("map" + layer, {kExperts, kExperts});
    }
    const std::map<std::string, std::string> picks = {
        {"expert_indices", made("indices", DType::kI32, {kTokens, kChosen})},
        {"expert_weights", made("weights", DType::kF32, {kTokens, kChosen})},
        {"coefficients", made("coefficients", DType::kF32, {kTokens, 3})},
        {"expert_offsets", made("offsets", DType::kI32, {kFfnExperts + 1})},
        {"token_order", made("order", DType::kI32, {kTokens, kChosen})},
        {"expert_rows", made("expert_rows", DType::kI32, {kTokens, kChosen})}};
    const std::map<std::string, Attribute> gating = {{"experts", {0, 3, 1, 2, 2, 1, 3, 1}},
                                                     {"scores", 0},
                                                     {"normalise", 1},
                                                     {"drop_zero", 1},
                                                     {"masked", 0},
                                                     {"groups", 1},
                                                     {"top_groups", 1},
                                                     {"norm_std", 1},
                                                     {"input_scale", 2},
                                                     {"weight_scale", 1}};
    op("rms_norm", "middle" + layer,
       {{"x", *x}, {"delta", mixed}, {"weight", "norm"}, {"sum", sum}, {"out", z}},
       {{"eps", 1e-6}});
    router["x"] = z;
    if (layer == "1") {  // a two-layer router
      router["hidden"] = made("hidden", DType::kF32, {kTokens, 8});
      op("linear", "hidden" + layer,
         {{"x", z}, {"weight", weight("wh" + layer, {8, h})}, {"out", router["hidden"]}},
         {{"activation", 1}});
    }
    op("router_logits", "router" + layer, router);
    std::map<std::string, std::string> route = {{"logits", "router_logits" + layer},
                                                {"constant_scores", "scores" + layer}};
    route.insert(picks.begin(), picks.end());
    op("route_top_k", "route" + layer, route, gating);
    *previous = "router_logits" + layer;
    const std::string up = made("up", DType::kF32, {kTokens, kChosen, ffn_}),
                      down = made("down", DType::kF32, {kTokens, kChosen, h});
    op("grouped_gemm", "up" + layer,
       {{"x", z},
        {"expert_offsets", "offsets" + layer},
        {"token_order", "order" + layer},
        {"weight", weight("gate_up" + layer, {kFfnExperts, 2 * ffn_, h})},
        {"out", up}},
       {{"input_scale", 2}, {"activation", 2}});
    op("grouped_gemm", "down" + layer,
       {{"x", up},
        {"expert_offsets", "offsets" + layer},
        {"weight", weight("down_proj" + layer, {kFfnExperts, h, ffn_})},
        {"out", down}},
       {{"input_scale", 1}, {"activation", 0}});
    const std::string out = made("next", DType::kF32, {kTokens, h});
    op("combine", "combine" + layer,
       {{"residual", sum},
        {"x", z},
        {"expert_out", down},
        {"coefficients", "coefficients" + layer},
        {"expert_weights", "weights" + layer},
        {"expert_rows", "expert_rows" + layer},
        {"constants", weight("constants" + layer, {2, h})},
        {"norm_weight", "norm"},
        {"moe_output", made("moe_output", DType::kF32, {kTokens, h})},
        {"sum", made("total", DType::kF32, {kTokens, h})},
        {"out", out}},
       {{"eps", 1e-6}});
    *x = "total" + layer;
    *y = out;
  }

  void buffer(const std::string& name, DType dtype, Shape shape) {
    spec.buffers.push_back({name, dtype, std::move(shape)});
  }

  std::string weight(const std::string& name, Shape shape) {
    TensorRef ref;
    ref.name = name;
    ref.shape = shape;
    ref.strides.assign(shape.size(), 1);
    for (size_t i = shape.size() - 1; i-- > 0;) ref.strides[i] = ref.strides[i + 1] * shape[i + 1];
    ref.file = file_;
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    ref.byte_offset = next_byte_;
    ref.byte_length = static_cast<uint64_t>(elements) * 4;
    next_byte_ += ref.byte_length;
    spec.weights.push_back({name, DType::kF32, std::move(shape), {ref}});
    return name;
  }

  void op(const std::string& name, const std::string& label,
          std::map<std::string, std::string> tensors,
          std::map<std::string, Attribute> attributes = {}) {
    spec.ops.push_back({name, label, std::move(tensors), std::move(attributes)});
  }

  std::string file_;
  int64_t hidden_, ffn_;
  uint64_t next_byte_ = 0;
};

// One step's inputs and the memory of its results.
struct SmallStep {
  std::vector<int32_t> tokens, rows;
  std::map<std::string, std::vector<float>> results;
  Step step;

  // Results: the logits, and every buffer named in `capture`.
  SmallStep(const Program& program, int64_t count, const std::vector<std::string>& capture = {}) {
    for (int64_t t = 0; t < count; t++) {
      tokens.push_back(static_cast<int32_t>(t * 11 % kVocabulary));
      rows.push_back(static_cast<int32_t>(t));
    }
    step.sizes = {count, count, 1, 0};
    step.inputs["tokens"] = {tokens.data(), static_cast<int64_t>(tokens.size() * 4)};
    step.inputs["rows"] = {rows.data(), static_cast<int64_t>(rows.size() * 4)};
    std::vector<std::string> wanted = capture;
    wanted.push_back("logits");
    for (const std::string& name : wanted) {
      DType dtype;
      Shape shape;
      if (!program.describe(name, step.sizes, &dtype, &shape)) continue;
      int64_t elements = 1;
      for (const int64_t size : shape) elements *= size;
      std::vector<float>& memory = results[name];
      memory.assign(static_cast<size_t>(elements), -12345.0f);
      step.results[name] = {memory.data(), elements * 4};
    }
  }
};

}  // namespace moepp::test
