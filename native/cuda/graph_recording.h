// A recorded step of a GPU: graphs, and the host's work between them. An exchange with other ranks
// is such work. NCCL demands of a graph with its kernels that all ranks have captured it together,
// and launch it together, but each rank records for itself.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/cuda_queue.h"
#include "cuda/kernels/persistent/stages.h"
#include "cuda/status_of.h"
#include "device.h"

namespace moepp::cuda {

class GraphRecording final : public Recording {
 public:
  ~GraphRecording() override {
    for (const Piece& piece : pieces_) simt::destroy_graph(piece.graph);
  }

  // Records what `enqueue` puts into the queue. `persistent`: into a stage list of its own, which
  // the queue has afterwards. `device`: its name, for errors.
  static Status make(CudaQueue& queue, bool persistent, const std::string& device,
                     const std::function<Status()>& enqueue,
                     std::unique_ptr<Recording>* recording) {
    std::unique_ptr<GraphRecording> made(new GraphRecording(queue.stream()));
    if (persistent) {
      MOEPP_CHECK(status_of(StageList::create(true, made->stream_, &made->stages_), device));
      queue.set_stages(made->stages_.get());
    }
    MOEPP_CHECK(status_of(simt::begin_capture(made->stream_), device));
    queue.set_recorder([&](CudaQueue::HostWork work) { return made->cut(std::move(work)); });
    const Status status = enqueue();
    queue.set_recorder(nullptr);
    simt::Error error = made->end_piece({});
    if (error == simt::kSuccess && persistent) error = made->stages_->upload(made->stream_);
    MOEPP_CHECK(status);
    MOEPP_CHECK(status_of(error, device));
    *recording = std::move(made);
    return {};
  }

  Status replay(const std::string& device) const {
    for (const Piece& piece : pieces_) {
      MOEPP_CHECK(status_of(simt::launch_graph(piece.graph, stream_), device));
      if (piece.then) MOEPP_CHECK(piece.then());
    }
    return {};
  }

 private:
  struct Piece {
    simt::Graph graph;
    CudaQueue::HostWork then;  // or null
  };
  explicit GraphRecording(simt::Stream stream) : stream_(stream) {}
  // Work of the host comes here.
  simt::Error cut(CudaQueue::HostWork work) {
    const simt::Error error = end_piece(std::move(work));
    return error == simt::kSuccess ? simt::begin_capture(stream_) : error;
  }
  simt::Error end_piece(CudaQueue::HostWork then) {
    simt::Graph graph = nullptr;
    const simt::Error error = simt::end_capture(stream_, &graph);
    if (graph != nullptr) pieces_.push_back({graph, std::move(then)});
    return error;
  }

  const simt::Stream stream_;
  std::unique_ptr<StageList> stages_;  // what its kernels walk through, or null
  std::vector<Piece> pieces_;
};

}  // namespace moepp::cuda
