#include "local.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace moepp::parallel {

namespace {

// Shared by the ranks of one group.
struct Hub {
  explicit Hub(int size) : size(size), left(static_cast<size_t>(size)), to(left.size()) {
    for (auto& of_rank : to) of_rank.resize(left.size());
  }
  const int size;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> left;                            // ranks that are gone, in whatever way
  std::vector<std::vector<std::deque<Message>>> to;  // [to][from]
  int failed = -1;                                   // the first rank that did
  std::string reason;                                // its words
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<Hub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  ~LocalCommunicator() override {
    const std::lock_guard<std::mutex> lock(hub_->mutex);
    hub_->left[rank_] = true;
    hub_->changed.notify_all();
  }

  int rank() const override { return rank_; }
  int size() const override { return hub_->size; }

  Status start(std::vector<Message> messages) override {
    const std::lock_guard<std::mutex> lock(hub_->mutex);
    for (int to = 0; to < size(); to++)
      if (to != rank_) hub_->to[to][rank_].push_back(std::move(messages[to]));
    hub_->changed.notify_all();
    return {};
  }

  Status finish(int64_t deadline_ms, std::vector<Message>* received) override {
    received->clear();
    received->resize(static_cast<size_t>(size()));
    std::unique_lock<std::mutex> lock(hub_->mutex);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(deadline_ms);
    for (int from = 0; from < size(); from++) {
      if (from == rank_) continue;
      auto& queue = hub_->to[rank_][from];
      while (queue.empty()) {
        MOEPP_CHECK(failure(from));
        if (deadline_ms == 0) {
          hub_->changed.wait(lock);
        } else if (hub_->changed.wait_until(lock, end) == std::cv_status::timeout &&
                   queue.empty()) {
          MOEPP_CHECK(failure(from));
          return Status::error(Code::kParallel, no_message(from, deadline_ms));
        }
      }
      (*received)[from] = std::move(queue.front());
      queue.pop_front();
    }
    return failure(rank_);
  }

  Status look() override {
    const std::lock_guard<std::mutex> lock(hub_->mutex);
    return failure(rank_);
  }

  void abort(const std::string& reason) override {
    const std::lock_guard<std::mutex> lock(hub_->mutex);
    if (hub_->failed < 0) hub_->failed = rank_, hub_->reason = reason;
    hub_->changed.notify_all();
  }

  void interrupt(const std::string& reason) override {
    const std::lock_guard<std::mutex> lock(hub_->mutex);
    interrupted_ = true, words_ = reason;
    hub_->changed.notify_all();
  }

 private:
  Status failure(int from) const {
    if (interrupted_) return Status::error(Code::kParallel, words_);
    if (hub_->failed >= 0 && hub_->failed != rank_)
      return Status::error(Code::kParallel, rank_failed(hub_->failed, hub_->reason));
    if (hub_->left[from])
      return Status::error(Code::kParallel, "rank " + std::to_string(from) + " is gone");
    return {};
  }

  const std::shared_ptr<Hub> hub_;
  const int rank_;
  bool interrupted_ = false;
  std::string words_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_communicators(int size) {
  const auto hub = std::make_shared<Hub>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; rank++)
    ranks.push_back(std::make_unique<LocalCommunicator>(hub, rank));
  return ranks;
}

}  // namespace moepp::parallel
