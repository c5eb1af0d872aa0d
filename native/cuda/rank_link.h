// A GPU's link to those of other ranks: memory for messages, and their exchange.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/cuda_queue.h"
#include "cuda/nccl.h"
#include "cuda/rank_messages.h"
#include "cuda/staging.h"
#include "ops/common.h"

namespace moepp::cuda {

// Device memory that grows as it is asked for. The stream must be idle then.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory() { simt::release(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  simt::Error reserve(int64_t bytes);
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  template <class T>
  T* at(int64_t byte) const {
    return reinterpret_cast<T*>(data() + byte);
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

class RankLink final : public parallel::DeviceLink {
 public:
  // Messages of at most so many bytes are sent whole, however many of their rows there are. Then
  // the host need not know how many, and does not wait. It was not measured: NVLink sends as much
  // in about the time in which the host learns a number.
  static constexpr int64_t kWholeBytes = 256 << 10;
  bool sends_whole(int64_t bytes) const { return bytes <= whole_bytes_; }
  void set_whole_bytes(int64_t bytes) { whole_bytes_ = bytes; }  // of all ranks, at most those

  // Makes the group's, as all ranks do. `device`: CUDA's number, and its name.
  static Status open(parallel::Group& group, int device, const std::string& name,
                     simt::Stream stream);
  // The group's, or null.
  static RankLink* of(const Ranks& ranks);
  static void refuse(const Ranks& ranks);
  ~RankLink() override;

  parallel::Group& group() const { return group_; }
  // On the device, of each rank.
  RowsHeader* sent_headers() const;
  RowsHeader* received_headers() const;
  CheckedRows* checked() const;
  RankReport* reports() const;
  // Messages that are sent whole: a place of kWholeBytes for each rank.
  MessageBox sent_whole() const;
  MessageBox received_whole() const;
  Status exchange_whole(int64_t bytes, simt::Stream stream);

  // Messages of other sizes, by rank. reserve() comes first, while the stream is idle.
  struct Boxes {
    MessageBox sent, received;
  };
  Status reserve(const std::vector<int64_t>& sent, const std::vector<int64_t>& received,
                 simt::Stream stream, Boxes* boxes);
  Status exchange_reserved(simt::Stream stream);
  // Exchanges sent_headers(), and waits for them and for received_headers().
  Status exchange_headers(simt::Stream stream, std::vector<RowsHeader>* sent,
                          std::vector<RowsHeader>* received);
  // Waits for arrays of a number more than there are ranks.
  Status read_offsets(const int32_t* first, const int32_t* second, simt::Stream stream,
                      std::vector<int32_t>* firsts, std::vector<int32_t>* seconds);

  // Runs it in the queue's order. Its failure is the group's.
  void between(CudaQueue& queue, const CudaQueue::HostWork& work);
  // Waits for the step's work in the stream, and looks at the reports.
  Status wait(simt::Stream stream);

 private:
  RankLink(parallel::Group& group, int device, const std::string& name)
      : group_(group), device_(device), name_(name) {}
  Status make_memory(simt::Stream stream);
  Status take_reports();
  int64_t ranks() const { return group_.size(); }
  template <class T>
  Status read(const T* first, const T* second, int64_t count, simt::Stream stream,
              std::vector<T>* firsts, std::vector<T>* seconds);

  parallel::Group& group_;
  const int device_;
  const std::string name_;
  std::unique_ptr<Nccl> nccl_;
  int64_t whole_bytes_ = kWholeBytes;
  // Of whole messages, those sent and received; of others; small arrays of one entry a rank.
  DeviceMemory whole_, sent_, received_, arrays_;
  HostMemory host_, host_begins_;
  std::vector<int64_t> sent_bytes_, received_bytes_, sent_begins_, received_begins_;
  std::vector<RankReport> counted_;
};

}  // namespace moepp::cuda
