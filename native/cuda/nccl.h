// The exchange of bytes between the GPUs of a group's ranks, by NCCL (nccl_api.h). All else goes
// over the group's own messages.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "cuda/nccl_api.h"
#include "parallel/group.h"

namespace moepp::cuda {

// The thread of the group's exchanges calls it, with its device as CUDA's current one.
class Nccl {
 public:
  // All ranks open theirs. `device`: its name, for errors.
  static Status open(parallel::Group& group, std::string device, std::unique_ptr<Nccl>* nccl);
  ~Nccl();
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  struct Run {
    std::byte* data;
    int64_t bytes;
  };
  // send[r] goes to each other rank r, and receive[r] comes from it, in the stream's order. Both
  // ranks know how many bytes it is. A failure, as of wait(), is the group's.
  Status exchange(const std::vector<Run>& send, const std::vector<Run>& receive,
                  simt::Stream stream);

  // Waits for the stream, which waits for other ranks. If one has failed, or nothing comes within
  // the deadline, the exchanges in the stream end unfinished.
  Status wait(simt::Stream stream);

 private:
  Nccl(const NcclApi& api, parallel::Group& group, std::string device)
      : api_(api), group_(group), device_(std::move(device)) {}
  Status join();
  Status check(int error, const char* call) const;
  Status settle(const char* call);
  template <class Look>
  Status wait_until(const Look& look, const char* what);
  void abort();

  const NcclApi& api_;
  parallel::Group& group_;
  const std::string device_;
  NcclComm comm_ = nullptr;
};

}  // namespace moepp::cuda
