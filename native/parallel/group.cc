#include "group.h"

#include <chrono>
#include <new>
#include <utility>

namespace moepp::parallel {

static std::string name_of(uint32_t kind, uint64_t number) {
  static const char* const names[] = {"mail", "dispatch", "collect", "close"};
  const uint32_t first = static_cast<uint32_t>(Exchange::kMail);
  return (kind < first || kind - first > 3 ? "unknown" : names[kind - first]) + std::string(" ") +
         std::to_string(number);
}

// For want of memory a rank fails as it does for any other reason: the others learn of it.
template <class Call>
static Status guarded(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Status::error(Code::kOutOfMemory, "out of memory for messages of other ranks");
  }
}

Group::Group(std::unique_ptr<Communicator> communicator, int64_t deadline_ms)
    : communicator_(std::move(communicator)),
      rank_(communicator_->rank()),
      size_(communicator_->size()),
      deadline_ms_(deadline_ms) {}

Group::~Group() {
  if (!closed_) abort("it went without closing its group");
}

std::string Group::place() const {
  return "rank " + std::to_string(rank_) + " of " + std::to_string(size_) + ": ";
}

Status Group::fault() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return fault_;
}

Status Group::look() {
  MOEPP_CHECK(fault());
  Status status;
  {
    const std::lock_guard<std::mutex> call(calls_);
    status = communicator_->look();
  }
  return status.ok() ? status : fail(status);
}

Status Group::fail(const Status& status) {
  return fail(status, status.message);
}

Status Group::fail(const Status& status, const std::string& reason) {
  Status first;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (fault_.ok()) {
      fault_ = status;
      if (status.code == Code::kParallel) fault_.message = place() + status.message;
    }
    first = fault_;
  }
  communicator_->interrupt(first.message);
  const std::lock_guard<std::mutex> call(calls_);  // the call in flight ends now
  if (!std::exchange(told_, true)) communicator_->abort(reason);
  return first;
}

void Group::abort(const std::string& reason) {
  if (!fault().ok()) return;
  fail(Status::error(Code::kParallel, "the group was aborted: " + reason), reason);
}

Status Group::start(Exchange kind, std::vector<Message> messages) {
  MOEPP_CHECK(fault());
  kind_ = kind;
  for (int to = 0; to < size_; to++) {
    Frame frame;
    frame.kind = static_cast<uint32_t>(kind);
    frame.number = number_;
    frame.bytes = messages[to].body_bytes();
    messages[to].set_frame(frame);
    if (to == rank_) continue;
    messages_sent_++;
    bytes_sent_ += static_cast<int64_t>(messages[to].bytes());
  }
  exchanges_++;
  own_ = std::move(messages[rank_]);
  Status status;
  {
    const std::lock_guard<std::mutex> call(calls_);
    status = guarded([&] { return communicator_->start(std::move(messages)); });
  }
  return status.ok() ? status : fail(status);
}

Status Group::finish(std::vector<Message>* received, bool waits) {
  MOEPP_CHECK(fault());
  const auto begin = std::chrono::steady_clock::now();
  Status status;
  {
    const std::lock_guard<std::mutex> call(calls_);
    status = guarded([&] { return communicator_->finish(waits ? 0 : deadline_ms_, received); });
  }
  if (!status.ok()) {
    MOEPP_CHECK(fault());  // of the abort that ended it
    status.message = name_of(static_cast<uint32_t>(kind_), number_) + ": " + status.message;
    return fail(status);
  }
  if (kind_ == Exchange::kDispatch || kind_ == Exchange::kCollect)
    wait_ns_ += (std::chrono::steady_clock::now() - begin).count();
  for (int from = 0; from < size_ && status.ok(); from++)
    if (from != rank_) status = check(from, (*received)[from]);
  if (!status.ok()) return fail(status);
  (*received)[rank_] = std::move(own_);
  number_++;
  return {};
}

// All ranks are in the same exchange, or their steps are not the same.
Status Group::check(int from, const Message& message) const {
  const std::string expected = name_of(static_cast<uint32_t>(kind_), number_),
                    who = "rank " + std::to_string(from);
  if (!message.has_frame() || message.frame().magic != Frame::kMagic)
    return Status::error(Code::kParallel, expected + ": " + who + " sent " +
                                              std::to_string(message.bytes()) +
                                              " bytes that are no message of this version");
  const Frame frame = message.frame();
  if (frame.kind != static_cast<uint32_t>(kind_) || frame.number != number_)
    return Status::error(Code::kParallel, "expected " + expected + " from " + who + ", got " +
                                              name_of(frame.kind, frame.number));
  if (frame.bytes != message.body_bytes())
    return Status::error(Code::kParallel, expected + ": the message from " + who + " has " +
                                              std::to_string(message.body_bytes()) +
                                              " bytes, expected " + std::to_string(frame.bytes));
  return {};
}

Status Group::exchange(Exchange kind, std::vector<Message> messages, std::vector<Message>* received,
                       bool waits) {
  MOEPP_CHECK(start(kind, std::move(messages)));
  return finish(received, waits);
}

Status Group::close() {
  if (closed_) return {};
  std::vector<Message> nothing, received;
  for (int r = 0; r < size_; r++) nothing.push_back(Message::of_body(0));
  MOEPP_CHECK(exchange(Exchange::kClose, std::move(nothing), &received));
  link_.reset();
  const std::lock_guard<std::mutex> lock(mutex_);
  fault_ = Status::error(Code::kClosed, "the group of ranks is closed");
  closed_ = true;
  communicator_->leave();
  return {};
}

Counters Group::counters() const {
  return {exchanges_, messages_sent_, bytes_sent_, rows_sent_, picks_, local_picks_, wait_ns_};
}

}  // namespace moepp::parallel
