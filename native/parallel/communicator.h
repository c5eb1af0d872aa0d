// Messages between the ranks of a group: the processes, or in tests the threads, that run one model
// together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "status.h"

namespace moepp::parallel {

// The beginning of every message. Ranks run on machines of one byte order.
struct Frame {
  static constexpr uint32_t kMagic = 0x316d706d;  // "mpm1"; another number with another format
  uint32_t magic = kMagic;
  uint32_t kind = 0;      // an Exchange (group.h)
  uint64_t number = 0;    // of the exchange, from 0 on
  uint64_t bytes = 0;     // behind the frame
  uint64_t reserved = 0;  // so that what follows is aligned as malloc's memory is
};

// The bytes of one message: a frame, and a body behind it.
class Message {
 public:
  Message() = default;
  // The body's bytes are not set yet. Throws std::bad_alloc.
  static Message of_body(size_t bytes) { return Message(sizeof(Frame) + bytes); }
  static Message of_all(size_t bytes) { return Message(bytes); }

  std::byte* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }
  bool has_frame() const { return bytes_ >= sizeof(Frame); }
  std::byte* body() const { return data() + sizeof(Frame); }
  size_t body_bytes() const { return has_frame() ? bytes_ - sizeof(Frame) : 0; }
  Frame frame() const {
    Frame frame;
    std::memcpy(&frame, data(), sizeof(Frame));
    return frame;
  }
  void set_frame(const Frame& frame) const { std::memcpy(data(), &frame, sizeof(Frame)); }

 private:
  explicit Message(size_t bytes) : data_(new std::byte[bytes]), bytes_(bytes) {}

  std::unique_ptr<std::byte[]> data_;
  size_t bytes_ = 0;
};

// The transport of one rank. One thread at a time calls it, but for interrupt().
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Sends messages[r] to each other rank r, and expects one of each. Returns at once. finish()
  // comes before the next start().
  virtual Status start(std::vector<Message> messages) = 0;
  // Waits until the messages are there, received[r] from each other rank r, and until those of
  // start() are out. kParallel after `deadline_ms` (0: never), or when a rank has failed. After a
  // failure comes nothing but abort().
  virtual Status finish(int64_t deadline_ms, std::vector<Message>* received) = 0;
  // Returns at once, for waits for something else: kParallel if another rank has said that it
  // failed, or after an interrupt().
  virtual Status look() = 0;
  // Tries to tell the other ranks that this one has failed. So they need not wait for their
  // deadlines.
  virtual void abort(const std::string& reason) = 0;
  // The ranks are done with each other: every one has had every message.
  virtual void leave() {}

  // Ends a finish() of another thread, now or when it begins: it returns kParallel with `reason`.
  virtual void interrupt(const std::string& reason) = 0;
};

// The words of both transports.
std::string no_message(int from, int64_t deadline_ms);
std::string rank_failed(int rank, const std::string& reason);

}  // namespace moepp::parallel
