#include "test/emulator/streams.h"

#include <map>
#include <mutex>

#include "test/emulator/devices.h"
#include "test/emulator/fiber.h"
#include "test/emulator/runtime.h"

namespace simt::emu {

namespace {

std::recursive_mutex& mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}
using Lock = std::lock_guard<std::recursive_mutex>;

thread_local StreamState* captured_here = nullptr;

Error fail_work(const std::string& cause) {
  set_failure(cause);
  return kLaunchFailed;
}

// The faults of work that show before it runs.
Error check_memory(const StreamState& stream, const Work& work) {
  for (const Touched& touched : work.touched) {
    Memory memory;
    if (!find_memory(touched.data, &memory) || memory.serial != touched.serial)
      return fail_work("memory was freed while work in a stream referred to it");
    if (work.kernel != nullptr && memory.device != kHostMemory && memory.device != stream.device)
      return fail_work("a kernel on device " + std::to_string(stream.device) +
                       " was given memory of device " + std::to_string(memory.device));
  }
  return kSuccess;
}

// Starts kernels up to their wait before the one ahead has begun. These are the next one, and those
// that a kernel lets go before its own wait.
void start_early(StreamState& stream, size_t count, std::vector<Grid*>& started) {
  for (size_t i = started.size() + 1; i < count; i++) {
    const Work& work = *stream.queue[i];
    acquire(&work.edge);
    if (work.kernel == nullptr || !work.call.early) return;
    if (check_memory(stream, work) != kSuccess) return;
    started.push_back(start_grid(work.call, true));
    if (!let_go(started.back())) return;
  }
}

Error run_kernel(StreamState& stream, const Work& work, size_t count, std::vector<Grid*>& started) {
  Grid* grid = nullptr;
  if (!started.empty()) {
    grid = started.front();
    started.erase(started.begin());
  }
  start_early(stream, count, started);
  if (grid == nullptr) grid = start_grid(work.call, false);
  return static_cast<Error>(finish_grid(grid));
}

// The queue is the host's, and the work runs as the stream.
Error run_work(StreamState& stream, size_t count, std::vector<Grid*>& started) {
  const Work& work = *stream.queue.front();
  if (const Error error = check_memory(stream, work)) return error;
  if (work.is_copy) count_down(&gpu().copies_to_fault);
  if (work.kernel != nullptr) {
    launched(work.kernel);
    count_down(&gpu().kernels_to_fault);
  }
  void* host = tsan_current();
  tsan_become(stream.tsan);
  acquire(&work.edge);
  for (const auto& run : work.notes) run();
  const Error error =
      work.kernel != nullptr ? run_kernel(stream, work, count, started) : work.run();
  release(&stream.ended);
  tsan_become(host);
  return error;
}

// After a failure ahead of them.
void abandon(StreamState& stream, const std::vector<Grid*>& started) {
  if (started.empty()) return;
  void* host = tsan_current();
  tsan_become(stream.tsan);
  for (Grid* grid : started) abandon_grid(grid);
  release(&stream.ended);
  tsan_become(host);
}

// The work's own question runs as the stream, too.
bool is_ready(StreamState& stream, const Work& work) {
  if (!work.ready) return true;
  void* host = tsan_current();
  tsan_become(stream.tsan);
  acquire(&work.edge);
  const bool ready = work.ready();
  tsan_become(host);
  return ready;
}

// Up to work that is not ready, or, if it `waits`, to the position.
void run_until(StreamState& stream, uint64_t position, bool waits) {
  if (position <= stream.done) return;
  std::vector<Grid*> started;  // early, of the works behind the first
  started.reserve(static_cast<size_t>(position - stream.done));  // by the host, who frees it
  while (stream.done < position && stream.error == kSuccess && !is_lost()) {
    if (!is_ready(stream, *stream.queue.front())) {  // nothing starts early behind such work
      if (!waits) return;
      mutex().unlock();
      std::this_thread::yield();
      mutex().lock();
      continue;
    }
    stream.error = run_work(stream, static_cast<size_t>(position - stream.done), started);
    stream.finished.push_back(std::move(stream.queue.front()));
    stream.queue.pop_front();
    stream.done++;
  }
  abandon(stream, started);
  if (stream.error == kSuccess && !is_lost()) return;
  stream.done += stream.queue.size();
  acquire(&stream.ended);  // kernels that started early have read their arguments
  stream.queue.clear();
}

// In front of its own, which work of a graph has.
void take_notes(StreamState& stream, Work& work) {
  work.notes.insert(work.notes.begin(), stream.notes.begin(), stream.notes.end());
  stream.notes.clear();
}

// Work for the notes that no other has taken.
Work noted(StreamState& stream) {
  Work work = {[] { return kSuccess; }};
  take_notes(stream, work);
  return work;
}

void enqueue(StreamState& stream, Work work) {
  stream.queue.push_back(std::make_unique<Work>(std::move(work)));
  release(&stream.queue.back()->edge);
  stream.submitted++;
}

bool runs_at_once(StreamState& stream) {
  if (options.order != Order::kRandom) return options.async == Async::kEager;
  stream.random ^= stream.random << 13;
  stream.random ^= stream.random >> 7;
  stream.random ^= stream.random << 17;
  return stream.random >> 40 & 1;
}

// Of a stream that someone has waited for.
Error take_end(StreamState& stream) {
  acquire(&stream.ended);
  stream.finished.clear();
  const Error error = stream.error;
  stream.error = kSuccess;
  return is_lost() ? kLost : error;
}

}  // namespace

StreamState* new_stream() {
  auto* stream = new StreamState;
  stream->submit = submit;
  stream->device = current_device();
  stream->tsan = tsan_create();
  return stream;
}

void delete_stream(StreamState* stream) {
  const Lock lock(mutex());
  run_until(*stream, stream->submitted, true);
  acquire(&stream->ended);
  if (captured_here == stream) captured_here = nullptr;
  if (stream->tsan != nullptr) tsan_destroy(stream->tsan);
  delete stream;
}

StreamState& stream_of(Stream stream) {
  if (stream != nullptr) return *static_cast<StreamState*>(stream);
  static auto* const legacy = new std::map<int, StreamState*>;
  const Lock lock(mutex());
  StreamState*& own = (*legacy)[current_device()];
  if (own == nullptr) own = new_stream();
  return *own;
}

Error submit(Stream handle, Work work) {
  if (is_lost()) return kLost;
  StreamState& stream = stream_of(handle);
  const Lock lock(mutex());
  take_notes(stream, work);
  if (stream.capturing) {
    if (stream.invalid) return kCaptureInvalidated;
    stream.recorded.push_back(std::move(work));
    return kSuccess;
  }
  if (stream.error != kSuccess) return stream.error;
  enqueue(stream, std::move(work));
  if (runs_at_once(stream)) run_until(stream, stream.submitted, false);
  return kSuccess;
}

void note(Stream handle, std::function<void()> what) {
  const Lock lock(mutex());
  stream_of(handle).notes.push_back(std::move(what));
}

Error wait_until(StreamState& stream, uint64_t position) {
  const Lock lock(mutex());
  if (position == stream.submitted && !stream.notes.empty() && !stream.capturing) {
    enqueue(stream, noted(stream));
    position++;
  }
  run_until(stream, position, true);
  return take_end(stream);
}

Error look(StreamState& stream, bool* done) {
  const Lock lock(mutex());
  run_until(stream, stream.submitted, false);
  *done = stream.done >= stream.submitted || is_lost();
  if (*done) return take_end(stream);
  return kSuccess;
}

void touch(Work& work, const void* data) {
  Memory memory;
  if (find_memory(data, &memory)) work.touched.push_back({data, memory.serial});
}

void touch_arguments(Work& work, const void* arguments, size_t bytes) {
  const auto* from = static_cast<const unsigned char*>(arguments);
  for (size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    const void* word;
    __builtin_memcpy(&word, from + at, sizeof word);
    touch(work, word);
  }
}

Error begin_capture(StreamState& stream) {
  const Lock lock(mutex());
  if (&stream == &stream_of(nullptr)) return kCaptureUnsupported;
  if (stream.capturing || captured_here != nullptr) return kInvalidValue;
  stream.capturing = true;
  stream.invalid = false;
  stream.capturer = std::this_thread::get_id();
  captured_here = &stream;
  return kSuccess;
}

Error end_capture(StreamState& stream, std::vector<Work>* recorded) {
  const Lock lock(mutex());
  if (!stream.capturing) return kInvalidValue;
  if (stream.capturer != std::this_thread::get_id()) return kCaptureWrongThread;
  stream.capturing = false;
  captured_here = nullptr;
  if (!stream.notes.empty()) stream.recorded.push_back(noted(stream));
  recorded->swap(stream.recorded);
  stream.recorded.clear();
  return stream.invalid ? kCaptureInvalidated : kSuccess;
}

Error forbid_in_capture() {
  return captured_here == nullptr ? kSuccess : forbid_in_capture(*captured_here);
}
Error forbid_in_capture(StreamState& stream) {
  const Lock lock(mutex());
  if (!stream.capturing) return kSuccess;
  stream.invalid = true;
  return kCaptureUnsupported;
}

}  // namespace simt::emu
