// Tells the emulation what each op touches of a step's memory (Device::watch). It does so in the
// order of the stream, so that a recorded step does, too. Nothing on a GPU.
#pragma once

#include "cuda/simt/simt.h"
#include "device.h"

namespace moepp::cuda {

class WatchedMemory {
 public:
  // A multiple of the arena's alignment.
  static constexpr int64_t kGap = SIMT_EMULATED ? 64 : 0;

  void begin_op(const OpMemory& memory, simt::Stream stream) {
    step_ = memory.step;
    simt::close_memory(step_.data, size(step_), stream);
    for (const Piece& piece : memory.reads) simt::open_memory(piece.data, size(piece), stream);
    for (const Piece& piece : memory.writes) {
      simt::open_memory(piece.data, size(piece), stream);
      simt::forget(piece.data, size(piece), stream);
    }
  }
  void end_ops(simt::Stream stream) {
    if (step_.bytes > 0) simt::open_memory(step_.data, size(step_), stream);
    step_ = {};
  }

 private:
  static size_t size(const Piece& piece) { return static_cast<size_t>(piece.bytes); }
  Piece step_;
};

}  // namespace moepp::cuda
