#include "cuda/nccl.h"

#include <cstring>
#include <utility>

#include "cuda/status_of.h"
#include "device.h"
#include "host/platform.h"
#include "parallel/patience.h"

namespace moepp::cuda {

namespace {

constexpr const char* kLibrary = "libnccl.so.2";

template <class Function>
Status find(const char* symbol, Function* function) {
  void* found = nullptr;
  const Status status = load_library(kLibrary, symbol, &found);
  if (status.ok()) *function = reinterpret_cast<Function>(found);
  return status;
}

Status find_all(NcclApi* api) {
  MOEPP_CHECK(find("ncclGetVersion", &api->get_version));
  MOEPP_CHECK(find("ncclGetUniqueId", &api->get_unique_id));
  MOEPP_CHECK(find("ncclCommInitRankConfig", &api->init_rank));
  MOEPP_CHECK(find("ncclCommGetAsyncError", &api->get_async_error));
  MOEPP_CHECK(find("ncclCommAbort", &api->abort));
  MOEPP_CHECK(find("ncclGroupStart", &api->group_start));
  MOEPP_CHECK(find("ncclGroupEnd", &api->group_end));
  MOEPP_CHECK(find("ncclSend", &api->send));
  MOEPP_CHECK(find("ncclRecv", &api->receive));
  return find("ncclGetErrorString", &api->error_text);
}

}  // namespace

Status load_nccl(const NcclApi** api) {
  static NcclApi functions;
  static const Status found = find_all(&functions);
  *api = &functions;
  if (found.ok()) return {};
  return Status::error(found.code,
                       "NCCL carries rows between GPUs: " + found.message +
                           "; install it (Debian, Ubuntu: libnccl2 of NVIDIA's repository; pip: "
                           "nvidia-nccl-cu13), with its folder in LD_LIBRARY_PATH");
}

Status Nccl::open(parallel::Group& group, std::string device, std::unique_ptr<Nccl>* nccl) {
  const NcclApi* api = nullptr;
  MOEPP_CHECK(load_nccl(&api));
  std::unique_ptr<Nccl> made(new Nccl(*api, group, std::move(device)));
  MOEPP_CHECK(made->join());
  *nccl = std::move(made);
  return {};
}

Nccl::~Nccl() {
  abort();
}

// Ranks need not abort together, as they would have to destroy. Nothing is on its way at the end.
void Nccl::abort() {
  if (comm_ != nullptr) api_.abort(std::exchange(comm_, nullptr));
}

Status Nccl::check(int error, const char* call) const {
  if (error == kNcclSuccess || error == kNcclInProgress) return {};
  return Status::error(Code::kParallel, std::string(call) + ": " + api_.error_text(error) +
                                            " (NCCL_DEBUG=WARN tells more)");
}

Status Nccl::join() {
  using parallel::Message;
  NcclUniqueId id;
  if (group_.rank() == 0) MOEPP_CHECK(check(api_.get_unique_id(&id), "ncclGetUniqueId"));
  std::vector<Message> messages, received;
  for (int r = 0; r < group_.size(); r++) {
    messages.push_back(Message::of_body(sizeof id));
    std::memcpy(messages.back().body(), &id, sizeof id);
  }
  MOEPP_CHECK(group_.exchange(parallel::Exchange::kMail, std::move(messages), &received));
  if (received[0].body_bytes() != sizeof id)
    return Status::error(Code::kParallel, "rank 0 sent no id of NCCL");
  std::memcpy(&id, received[0].body(), sizeof id);
  NcclConfig config;
  MOEPP_CHECK(check(api_.init_rank(&comm_, group_.size(), id, group_.rank(), &config),
                    "ncclCommInitRankConfig"));
  return settle("ncclCommInitRankConfig");
}

// Calls return at once; this waits until the last one has done its part on the host.
Status Nccl::settle(const char* call) {
  return wait_until(
      [&](bool* done) {
        int error = kNcclSuccess;
        MOEPP_CHECK(check(api_.get_async_error(comm_, &error), "ncclCommGetAsyncError"));
        *done = error != kNcclInProgress;
        return check(error, call);
      },
      call);
}

template <class Look>
Status Nccl::wait_until(const Look& look, const char* what) {
  for (parallel::Patience patience;; patience.wait()) {
    bool done = false;
    Status status = look(&done);
    if (status.ok() && done) return {};
    const Status told = group_.look();  // knows more than NCCL
    if (!told.ok()) status = told;
    if (status.ok() && patience.is_over(group_.deadline_ms()))
      status = Status::error(Code::kParallel, std::string(what) + ": no end within " +
                                                  std::to_string(group_.deadline_ms()) + " ms");
    if (status.ok()) continue;
    abort();  // what is in the stream ends then
    return group_.fail(status);
  }
}

Status Nccl::exchange(const std::vector<Run>& send, const std::vector<Run>& receive,
                      simt::Stream stream) {
  MOEPP_CHECK(group_.fault());
  int64_t messages = 0, bytes = 0;
  Status status = check(api_.group_start(), "ncclGroupStart");
  for (int r = 0; r < group_.size() && status.ok(); r++) {
    if (r == group_.rank()) continue;
    const Run &to = send[static_cast<size_t>(r)], &from = receive[static_cast<size_t>(r)];
    if (to.bytes > 0) {
      status = check(api_.send(to.data, static_cast<size_t>(to.bytes), kNcclInt8, r, comm_, stream),
                     "ncclSend");
      messages++, bytes += to.bytes;
    }
    if (from.bytes > 0 && status.ok())
      status = check(
          api_.receive(from.data, static_cast<size_t>(from.bytes), kNcclInt8, r, comm_, stream),
          "ncclRecv");
  }
  const Status end = check(api_.group_end(), "ncclGroupEnd");
  if (status.ok()) status = end;
  group_.count_messages(messages, bytes);
  if (status.ok()) return settle("ncclGroupEnd");
  abort();
  return group_.fail(status);
}

Status Nccl::wait(simt::Stream stream) {
  const Status status = wait_until(
      [&](bool* done) {
        MOEPP_CHECK(status_of(simt::look(stream, done), device_));
        int error = kNcclSuccess;
        if (!*done && comm_ != nullptr) api_.get_async_error(comm_, &error);
        return check(error, "an exchange of rows");
      },
      "an exchange of rows");
  // Nothing may be in flight when memory goes.
  if (!status.ok()) simt::synchronize(stream);
  return status;
}

}  // namespace moepp::cuda

namespace moepp {

Status nccl_version(int* version) {
  const cuda::NcclApi* api = nullptr;
  MOEPP_CHECK(cuda::load_nccl(&api));
  if (const int error = api->get_version(version))
    return Status::error(Code::kUnsupported,
                         std::string("ncclGetVersion: ") + api->error_text(error));
  return {};
}

}  // namespace moepp
