// A recorded step of a GPU.
#pragma once

#include <memory>
#include <utility>

#include "cuda/kernels/persistent/stages.h"
#include "device.h"

namespace moepp::cuda {

class GraphRecording final : public Recording {
 public:
  // `stages`: what its kernels walk through, or null.
  GraphRecording(simt::Graph graph, std::unique_ptr<StageList> stages)
      : graph_(graph), stages_(std::move(stages)) {}
  ~GraphRecording() override { simt::destroy_graph(graph_); }
  simt::Graph graph() const { return graph_; }

 private:
  simt::Graph graph_;
  std::unique_ptr<StageList> stages_;
};

}  // namespace moepp::cuda
