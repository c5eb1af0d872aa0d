// A rank's membership in a group of ranks that run one model together, step by step.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "communicator.h"
#include "status.h"

namespace moepp::parallel {

// The exchanges of a step. All ranks make the same ones in the same order, which each message says.
enum class Exchange : uint32_t { kMail = 1, kDispatch = 2, kCollect = 3, kClose = 4 };

// Since the group was made.
struct Counters {
  int64_t exchanges = 0;
  int64_t messages_sent = 0, bytes_sent = 0;  // to other ranks, frames included
  int64_t rows_sent = 0;                      // of activations, and of experts' results
  int64_t picks = 0, local_picks = 0;         // FFN picks of own tokens, and those of own experts
  int64_t wait_ns = 0;                        // in finish() of kDispatch and kCollect
};

// All that a device needs to carry rows to those of other ranks itself. It ends with the group.
class DeviceLink {
 public:
  virtual ~DeviceLink() = default;
};

// One thread at a time calls it, but for rank(), size(), counters(), abort() and fault().
class Group {
 public:
  // deadline_ms: of a wait for other ranks; 0: none.
  Group(std::unique_ptr<Communicator> communicator, int64_t deadline_ms);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int64_t deadline_ms() const { return deadline_ms_; }

  // Of the device that the programs run on; null: rows travel as messages.
  void set_link(std::unique_ptr<DeviceLink> link) { link_ = std::move(link); }
  DeviceLink* link() const { return link_.get(); }

  // messages[r] goes to rank r; received[r] came from it. The own one is handed through. `waits`:
  // without a deadline. A failure here is one on every rank, and the group is of no more use.
  Status exchange(Exchange kind, std::vector<Message> messages, std::vector<Message>* received,
                  bool waits = false);
  // The halves of it: work may come in between.
  Status start(Exchange kind, std::vector<Message> messages);
  Status finish(std::vector<Message>* received, bool waits = false);

  // Ends the group on every rank with ERR_PARALLEL. From any thread: an exchange in flight ends.
  void abort(const std::string& reason);
  // Waits for all other ranks to close theirs. Later calls fail.
  Status close();
  // The failure after which nothing works any more, or ok.
  Status fault() const;
  // The same, after a look for the word of another rank: while this one waits for its device.
  Status look();
  // Makes it the fault, and tells the other ranks. Returns the first fault there was.
  Status fail(const Status& status);

  // Of messages that a device sends itself.
  void count_messages(int64_t messages, int64_t bytes) {
    exchanges_++, messages_sent_ += messages, bytes_sent_ += bytes;
  }
  // Of a finished step; rows and picks are counted by the ops.
  void count_rows(int64_t rows) { rows_sent_ += rows; }
  void count_picks(int64_t all, int64_t local) { picks_ += all, local_picks_ += local; }
  Counters counters() const;

  // "rank 1 of 4: "
  std::string place() const;

 private:
  // The other ranks are told the reason.
  Status fail(const Status& status, const std::string& reason);
  Status check(int from, const Message& message) const;

  const std::unique_ptr<Communicator> communicator_;
  const int rank_, size_;
  const int64_t deadline_ms_;
  Exchange kind_ = Exchange::kMail;  // of the exchange in flight
  uint64_t number_ = 0;
  Message own_;  // the message to itself
  std::unique_ptr<DeviceLink> link_;

  mutable std::mutex mutex_;  // of what follows
  Status fault_;
  bool told_ = false, closed_ = false;
  std::mutex calls_;  // held by a call of the communicator that may not overlap another

  std::atomic<int64_t> exchanges_{0}, messages_sent_{0}, bytes_sent_{0}, rows_sent_{0}, picks_{0},
      local_picks_{0}, wait_ns_{0};
};

}  // namespace moepp::parallel
