// Streams: queues of work that runs as late as CUDA allows, or at once (Options::async).
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "test/emulator/launches.h"
#include "test/emulator/scheduler.h"

namespace simt::emu {

// A piece of memory that work in a stream refers to.
struct Touched {
  const void* data;
  uint64_t serial;
};

struct Work {
  std::function<Error()> run;  // null: a kernel
  GridCall call = {};
  Kernel kernel = nullptr;
  std::shared_ptr<void> arguments = nullptr;
  std::vector<Touched> touched = {};
  bool is_copy = false;
  std::vector<std::function<void()>> notes = {};  // run once all work before is done
  char edge = 0;                                  // ThreadSanitizer's: from who submitted it
  // Of work that waits for others than this device: true once they have come. Then it runs.
  std::function<bool()> ready = nullptr;
};

struct StreamState {
  int device = 0;
  // submit() below, for a library of tests that has no other way to it (nccl/).
  Error (*submit)(Stream, Work) = nullptr;
  std::deque<std::unique_ptr<Work>> queue = {};
  std::vector<std::unique_ptr<Work>> finished = {};  // until someone waits for the stream
  uint64_t submitted = 0, done = 0;
  Error error = kSuccess;  // until someone waits for the stream
  uint64_t random = 88172645463325252u;
  void* tsan = nullptr;  // the stream as ThreadSanitizer's thread
  char ended = 0;        // its edge to who waits for it
  bool capturing = false, invalid = false;
  std::thread::id capturer = {};
  std::vector<Work> recorded = {};
  std::vector<std::function<void()>> notes = {};  // for the next work
};

struct EventState {
  StreamState* stream = nullptr;
  uint64_t position = 0;  // works of the stream before it
  bool captured = false;
  int device = 0;
};

StreamState* new_stream();
void delete_stream(StreamState* stream);
// Of a handle: null is the current device's legacy stream.
StreamState& stream_of(Stream stream);

// Hands the work over: it runs at once or later, or is recorded.
Error submit(Stream stream, Work work);
// Runs between the work before and the next, which may be a kernel that starts early nonetheless.
void note(Stream stream, std::function<void()> what);
// Runs all that was submitted up to a position. Other host threads go on while work is not ready.
Error wait_until(StreamState& stream, uint64_t position);
// Runs what need not wait. True once nothing is left.
Error look(StreamState& stream, bool* done);
// Notes the memory at an address, if the runtime gave it.
void touch(Work& work, const void* data);
// Notes all memory that words among a kernel's arguments point to.
void touch_arguments(Work& work, const void* arguments, size_t bytes);

Error begin_capture(StreamState& stream);
Error end_capture(StreamState& stream, std::vector<Work>* recorded);
// For calls that capturing forbids to the thread: kSuccess where it captures nothing. Otherwise the
// capture is lost.
Error forbid_in_capture();
Error forbid_in_capture(StreamState& stream);

}  // namespace simt::emu
