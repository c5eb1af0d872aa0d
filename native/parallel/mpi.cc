#include "mpi.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "host/platform.h"
#include "mpi_shim.h"
#include "patience.h"

namespace moepp::parallel {

namespace {

// A rank is at most one exchange ahead of another, so two tags keep their messages apart.
constexpr int kTags = 2, kAbortTag = 2;

// MPI, which a process starts once and ends once.
struct Runtime {
  const moepp_mpi* mpi = nullptr;
  std::thread::id thread;
  bool started = false, ended = false;
  int groups = 0;  // that were not left in order
};
Runtime runtime;
std::mutex runtime_mutex;

std::string words_of(const moepp_mpi& mpi, int error) {
  char text[512] = "";
  mpi.error_text(error, text, sizeof text);
  return text[0] != 0 ? text : "MPI error " + std::to_string(error);
}

Status check(const moepp_mpi& mpi, int error, const char* call) {
  if (error == 0) return {};
  return Status::error(Code::kParallel, std::string(call) + ": " + words_of(mpi, error));
}

// A message on its way, which MPI reads or writes until the request is null.
struct Travelling {
  Message message;
  void* request = nullptr;
  int rank = 0;
};

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(const moepp_mpi& mpi, void* group, int rank, int size)
      : mpi_(mpi), group_(group), rank_(rank), size_(size) {}
  ~MpiCommunicator() override {
    // MPI may still use the memory of messages that no one took.
    static std::vector<std::vector<Travelling>> kept;
    const std::lock_guard<std::mutex> lock(runtime_mutex);
    kept.push_back(std::move(sent_));
    kept.push_back(std::move(coming_));
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Status start(std::vector<Message> messages) override;
  Status finish(int64_t deadline_ms, std::vector<Message>* received) override;
  void abort(const std::string& reason) override;
  void leave() override;
  Status look() override {
    MOEPP_CHECK(look_for_abort());
    return interruption();
  }

  void interrupt(const std::string& reason) override {
    const std::lock_guard<std::mutex> lock(words_mutex_);
    words_ = reason;
    interrupted_ = true;
  }

 private:
  Status send(int to, int tag, Message message);
  Status take(int tag, std::vector<Travelling>* coming, bool* found);
  Status test(std::vector<Travelling>* travelling, bool* moved);
  Status look_for_abort();
  Status interruption();
  std::string missing(int64_t deadline_ms) const;

  const moepp_mpi& mpi_;
  void* const group_;
  const int rank_, size_;
  int tag_ = 0;
  std::vector<Travelling> sent_, coming_;  // of this exchange
  bool was_told_ = false;                  // another rank failed first
  std::atomic<bool> interrupted_{false};
  std::mutex words_mutex_;
  std::string words_;
};

Status MpiCommunicator::send(int to, int tag, Message message) {
  if (message.bytes() > INT32_MAX)
    return Status::error(Code::kParallel, "a message to rank " + std::to_string(to) + " has " +
                                              std::to_string(message.bytes()) +
                                              " bytes, expected less than 2^31: take fewer tokens "
                                              "in a step");
  Travelling travelling = {std::move(message), nullptr, to};
  MOEPP_CHECK(
      check(mpi_,
            mpi_.send(group_, to, tag, travelling.message.data(),
                      static_cast<int64_t>(travelling.message.bytes()), &travelling.request),
            "MPI_Isend"));
  sent_.push_back(std::move(travelling));
  return {};
}

Status MpiCommunicator::start(std::vector<Message> messages) {
  sent_.clear(), coming_.clear();
  // Each rank begins with another one, so that they do not all send to rank 0 first.
  for (int i = 1; i < size_; i++) {
    const int to = (rank_ + i) % size_;
    MOEPP_CHECK(send(to, tag_, std::move(messages[to])));
  }
  return {};
}

// Begins to receive a message of that tag, if there is one.
Status MpiCommunicator::take(int tag, std::vector<Travelling>* coming, bool* found) {
  int is_there = 0, from = 0;
  int64_t bytes = 0;
  void* message = nullptr;
  MOEPP_CHECK(
      check(mpi_, mpi_.probe(group_, tag, &is_there, &from, &bytes, &message), "MPI_Improbe"));
  *found = is_there != 0;
  if (!*found) return {};
  Travelling travelling = {Message::of_all(static_cast<size_t>(bytes)), nullptr, from};
  MOEPP_CHECK(check(mpi_,
                    mpi_.receive(&message, travelling.message.data(), bytes, &travelling.request),
                    "MPI_Imrecv"));
  coming->push_back(std::move(travelling));
  return {};
}

Status MpiCommunicator::test(std::vector<Travelling>* travelling, bool* moved) {
  for (Travelling& one : *travelling) {
    if (one.request == nullptr) continue;
    int done = 0;
    MOEPP_CHECK(check(mpi_, mpi_.test(&one.request, &done), "MPI_Test"));
    *moved = *moved || done != 0;
  }
  return {};
}

Status MpiCommunicator::look_for_abort() {
  std::vector<Travelling> reasons;
  bool found = false, moved = false;
  MOEPP_CHECK(take(kAbortTag, &reasons, &found));
  if (!found) return {};
  was_told_ = true;
  // A few bytes, which come with the first look or never.
  for (const Patience patience; !moved && !patience.is_over(1000);)
    MOEPP_CHECK(test(&reasons, &moved));
  Travelling& one = reasons.front();
  const std::string words(reinterpret_cast<const char*>(one.message.data()), one.message.bytes());
  const Status failed = Status::error(Code::kParallel, rank_failed(one.rank, moved ? words : "?"));
  if (!moved) coming_.push_back(std::move(one));  // kept for MPI
  return failed;
}

Status MpiCommunicator::interruption() {
  if (!interrupted_) return {};
  const std::lock_guard<std::mutex> lock(words_mutex_);
  return Status::error(Code::kParallel, words_);
}

// The rank whose message is missing, or one that did not take its own.
std::string MpiCommunicator::missing(int64_t deadline_ms) const {
  for (int rank = 0; rank < size_; rank++) {
    const auto is_there = [rank](const Travelling& one) {
      return one.rank == rank && one.request == nullptr;
    };
    if (rank == rank_) continue;
    if (std::none_of(coming_.begin(), coming_.end(), is_there))
      return no_message(rank, deadline_ms);
    if (std::none_of(sent_.begin(), sent_.end(), is_there))
      return "rank " + std::to_string(rank) + " took no message within " +
             std::to_string(deadline_ms) + " ms";
  }
  return "no end within " + std::to_string(deadline_ms) + " ms";
}

Status MpiCommunicator::finish(int64_t deadline_ms, std::vector<Message>* received) {
  const size_t others = static_cast<size_t>(size_ - 1);
  const auto is_open = [](const Travelling& one) { return one.request != nullptr; };
  for (const Patience patience;;) {
    bool moved = false;
    if (coming_.size() < others) MOEPP_CHECK(take(tag_, &coming_, &moved));
    MOEPP_CHECK(test(&coming_, &moved));
    MOEPP_CHECK(test(&sent_, &moved));
    if (coming_.size() == others && std::none_of(coming_.begin(), coming_.end(), is_open) &&
        std::none_of(sent_.begin(), sent_.end(), is_open))
      break;
    MOEPP_CHECK(look());
    if (patience.is_over(deadline_ms)) return Status::error(Code::kParallel, missing(deadline_ms));
    if (!moved) patience.wait();
  }
  received->clear();
  received->resize(static_cast<size_t>(size_));
  for (Travelling& one : coming_) (*received)[one.rank] = std::move(one.message);
  tag_ = (tag_ + 1) % kTags;
  return {};
}

void MpiCommunicator::abort(const std::string& reason) {
  constexpr size_t kMostWords = 1000;
  constexpr int64_t kMs = 200;
  if (was_told_) return;
  const std::string words = reason.substr(0, kMostWords);
  for (int to = 0; to < size_; to++) {
    if (to == rank_) continue;
    Message message = Message::of_all(words.size());
    std::memcpy(message.data(), words.data(), words.size());
    if (!send(to, kAbortTag, std::move(message)).ok()) return;
  }
  for (const Patience patience; !patience.is_over(kMs); patience.wait()) {
    bool moved = false;
    if (!test(&sent_, &moved).ok()) return;
    if (std::all_of(sent_.begin(), sent_.end(),
                    [](const Travelling& one) { return one.request == nullptr; }))
      return;
  }
}

void MpiCommunicator::leave() {
  const std::lock_guard<std::mutex> lock(runtime_mutex);
  mpi_.close(group_);
  runtime.groups--;
}

Status start_mpi(const std::string& library) {
  if (runtime.ended)
    return Status::error(Code::kParallel, "MPI has ended, and does not start again");
  if (runtime.started) return {};
  // UCX, below some MPIs, tries its hooks of memory by moving the end of the heap up a page, and
  // down again. If it cannot go up, since V8 has mapped what follows, a page in use is lost.
  set_default_variable("UCX_MEM_EVENTS", "n");
  void* symbol = nullptr;
  MOEPP_CHECK(load_library(library, "moepp_mpi_functions", &symbol));
  const moepp_mpi* mpi = reinterpret_cast<decltype(&moepp_mpi_functions)>(symbol)();
  if (mpi->abi != MOEPP_MPI_ABI)
    return Status::error(Code::kUnsupported, library + " has version " + std::to_string(mpi->abi) +
                                                 ", expected " + std::to_string(MOEPP_MPI_ABI) +
                                                 ": build it anew");
  int serialized = 0;
  MOEPP_CHECK(check(*mpi, mpi->init(&serialized), "MPI_Init_thread"));
  if (serialized == 0)
    return Status::error(Code::kUnsupported,
                         "this MPI cannot be used by several threads (MPI_THREAD_SERIALIZED)");
  runtime.mpi = mpi;
  runtime.thread = std::this_thread::get_id();
  runtime.started = true;
  return {};
}

}  // namespace

Status open_mpi(const std::string& library, int64_t deadline_ms,
                std::unique_ptr<Communicator>* communicator) {
  const std::lock_guard<std::mutex> lock(runtime_mutex);
  MOEPP_CHECK(start_mpi(library));
  const moepp_mpi& mpi = *runtime.mpi;
  void *group = nullptr, *request = nullptr;
  int rank = 0, size = 0;
  MOEPP_CHECK(check(mpi, mpi.open(&group, &rank, &size, &request), "MPI_Comm_idup"));
  runtime.groups++;
  for (const Patience patience; request != nullptr; patience.wait()) {
    int done = 0;
    MOEPP_CHECK(check(mpi, mpi.test(&request, &done), "MPI_Comm_idup"));
    if (done == 0 && patience.is_over(deadline_ms))
      return Status::error(Code::kParallel, "rank " + std::to_string(rank) + " of " +
                                                std::to_string(size) +
                                                ": not every rank opened the group within " +
                                                std::to_string(deadline_ms) + " ms");
  }
  *communicator = std::make_unique<MpiCommunicator>(mpi, group, rank, size);
  return {};
}

void finalize_mpi() {
  const std::lock_guard<std::mutex> lock(runtime_mutex);
  if (!runtime.started || runtime.ended || runtime.groups > 0 ||
      runtime.thread != std::this_thread::get_id())
    return;
  runtime.ended = true;
  runtime.mpi->finalize();
}

}  // namespace moepp::parallel
