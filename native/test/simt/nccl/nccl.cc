// A libnccl.so.2 for tests, over streams of the emulated GPU. Ranks are threads or processes of one
// machine, joined by sockets. Sizes that differ between ranks are an error here.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "cuda/nccl_api.h"

using moepp::cuda::kNcclInProgress;
using moepp::cuda::kNcclSuccess;
using moepp::cuda::NcclConfig;
using moepp::cuda::NcclUniqueId;

namespace {

constexpr int kSystemError = 2, kInvalidArgument = 4, kInvalidUsage = 5, kRemoteError = 6;

struct Address {
  sockaddr_un name = {};
  socklen_t bytes;
  // Linux has names without files: they begin with a zero.
  Address(const char* id, int rank) {
    name.sun_family = AF_UNIX;
    const int length =
        std::snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "%s-%d", id, rank);
    bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path)) + 1 +
            static_cast<socklen_t>(length);
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

// Bytes on their way to or from a rank, behind their number. The work of a stream has no variables
// that it takes addresses of: to ThreadSanitizer they would be on the stack of the host's thread.
struct Run {
  int peer = 0;
  bool sends = false;
  std::byte* data = nullptr;
  uint64_t bytes = 0, done = 0, number = 0;  // done: of the number and the bytes
};

}  // namespace

struct ncclComm {
  std::string id;
  int rank = 0, ranks = 0;
  std::mutex mutex;
  int listener = -1;
  std::vector<int> sockets;
  std::atomic<int> error{kNcclInProgress};
  std::atomic<bool> aborted{false};
  int users = 1;  // the caller, and work in streams

  ~ncclComm() {
    for (const int socket : sockets)
      if (socket >= 0) close(socket);
    if (listener >= 0) close(listener);
  }

  bool is_joined() const {
    for (int r = 0; r < ranks; r++)
      if (r != rank && sockets[r] < 0) return false;
    return true;
  }
  // Joins ranks below this one, and takes those above it.
  void join() {
    const std::lock_guard<std::mutex> lock(mutex);
    for (int r = 0; r < rank; r++) {
      if (sockets[r] >= 0) continue;
      const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const Address address(id.c_str(), r);
      if (connect(made, address.get(), address.bytes) != 0) {
        close(made);
        return;
      }
      if (write(made, &rank, sizeof rank) != sizeof rank) error = kSystemError;
      sockets[r] = made;
    }
    for (int taken; (taken = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
      int from = -1;
      if (read(taken, &from, sizeof from) != sizeof from || from <= rank || from >= ranks) {
        error = kSystemError;
        close(taken);
        return;
      }
      sockets[from] = taken;
    }
    if (is_joined()) error = kNcclSuccess;
  }
  // True once the run is done. A rank that is gone leaves it undone, as a kernel of NCCL waits.
  bool move(Run* run) {
    const uint64_t all = sizeof run->bytes + run->bytes;
    while (run->done < all && error == kNcclSuccess) {
      const bool in_number = run->done < sizeof run->number;
      std::byte* data = in_number ? reinterpret_cast<std::byte*>(&run->number) + run->done
                                  : run->data + (run->done - sizeof run->number);
      const size_t bytes = in_number ? sizeof run->number - run->done : all - run->done;
      const ssize_t moved =
          run->sends ? ::send(sockets[run->peer], data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
                     : ::recv(sockets[run->peer], data, bytes, MSG_DONTWAIT);
      if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
      if (moved <= 0) {
        error = kRemoteError;
        return false;
      }
      run->done += static_cast<uint64_t>(moved);
      if (!run->sends && run->done == sizeof run->number && run->number != run->bytes)
        error = kInvalidUsage;  // the ranks' sizes differ
    }
    return run->done >= all;
  }
  bool move_all(std::vector<Run>* runs) {
    const std::lock_guard<std::mutex> lock(mutex);
    bool done = true;
    for (Run& run : *runs) done = move(&run) && done;
    return done || aborted;
  }
};

namespace {

void drop(ncclComm* comm) {
  bool last;
  {
    const std::lock_guard<std::mutex> lock(comm->mutex);
    last = --comm->users == 0;
  }
  if (last) delete comm;
}

// The calls between ncclGroupStart and ncclGroupEnd.
struct Group {
  int depth = 0;
  ncclComm* comm = nullptr;
  simt::Stream stream = nullptr;
  std::vector<Run> runs;
};
thread_local Group group;

int add(Run run, int type, ncclComm* comm, simt::Stream stream) {
  if (group.depth == 0 || type != moepp::cuda::kNcclInt8 || run.peer == comm->rank ||
      run.peer < 0 || run.peer >= comm->ranks || comm->error != kNcclSuccess)
    return kInvalidArgument;
  if (!group.runs.empty() && (group.comm != comm || group.stream != stream)) return kInvalidUsage;
  group.comm = comm, group.stream = stream;
  group.runs.push_back(run);
  return kNcclSuccess;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int ncclGetVersion(int* version) {
  *version = 22703;
  return kNcclSuccess;
}

int ncclGetUniqueId(NcclUniqueId* id) {
  std::random_device random;
  std::snprintf(id->internal, sizeof id->internal, "moepp-nccl-%08x%08x", random(), random());
  return kNcclSuccess;
}

int ncclCommInitRankConfig(ncclComm** comm, int ranks, NcclUniqueId id, int rank,
                           NcclConfig* config) {
  if (config->magic != NcclConfig().magic || config->blocking != 0) return kInvalidArgument;
  auto made = std::make_unique<ncclComm>();
  made->id = id.internal;
  made->rank = rank, made->ranks = ranks;
  made->sockets.resize(static_cast<size_t>(ranks), -1);
  made->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const Address address(id.internal, rank);
  if (bind(made->listener, address.get(), address.bytes) != 0 || listen(made->listener, ranks) != 0)
    return kSystemError;
  *comm = made.release();
  return kNcclInProgress;
}

int ncclCommGetAsyncError(ncclComm* comm, int* error) {
  if (comm->error == kNcclInProgress) comm->join();
  *error = comm->error;
  return kNcclSuccess;
}

int ncclCommAbort(ncclComm* comm) {
  comm->aborted = true;
  for (const int socket : comm->sockets)
    if (socket >= 0) shutdown(socket, SHUT_RDWR);
  drop(comm);
  return kNcclSuccess;
}

int ncclGroupStart() {
  group.depth++;
  return kNcclSuccess;
}

int ncclGroupEnd() {
  if (--group.depth > 0) return kNcclSuccess;
  if (group.runs.empty()) return kNcclSuccess;
  const std::shared_ptr<ncclComm> comm(group.comm, drop);
  {
    const std::lock_guard<std::mutex> lock(comm->mutex);
    comm->users++;
  }
  simt::emu::Work work;
  work.ready = [comm, runs = std::make_shared<std::vector<Run>>(std::move(group.runs))] {
    return comm->move_all(runs.get());
  };
  work.run = [] { return simt::kSuccess; };
  auto* stream = static_cast<simt::emu::StreamState*>(group.stream);
  const bool failed = stream->submit(stream, std::move(work)) != simt::kSuccess;
  group = {};
  return failed ? 1 : kNcclSuccess;
}

int ncclSend(const void* data, size_t count, int type, int peer, ncclComm* comm,
             simt::Stream stream) {
  auto* bytes = static_cast<std::byte*>(const_cast<void*>(data));
  return add({peer, true, bytes, count, 0, count}, type, comm, stream);
}

int ncclRecv(void* data, size_t count, int type, int peer, ncclComm* comm, simt::Stream stream) {
  return add({peer, false, static_cast<std::byte*>(data), count}, type, comm, stream);
}

const char* ncclGetErrorString(int error) {
  switch (error) {
    case kSystemError:
      return "unhandled system error";
    case kInvalidArgument:
      return "invalid argument";
    case kInvalidUsage:
      return "invalid usage";
    case kRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "unknown result code";
  }
}

}  // extern "C"
#pragma GCC visibility pop
