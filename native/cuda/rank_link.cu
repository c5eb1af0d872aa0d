#include "cuda/rank_link.h"

#include <algorithm>
#include <cstring>

#include "cuda/status_of.h"

namespace moepp::cuda {

namespace {

// Arrays of one entry a rank, in the order of their memory. Each takes as much, so that all are
// aligned.
enum Array { kSentHeaders, kReceivedHeaders, kChecked, kReports, kWhole, kSent, kReceived, kCount };
constexpr int64_t kEntryBytes = 32;
static_assert(sizeof(RankReport) <= kEntryBytes && sizeof(RowsHeader) <= kEntryBytes,
              "room for all entries");

constexpr int64_t kMessageAlignment = 256;

int64_t begin_all(const std::vector<int64_t>& bytes, std::vector<int64_t>* begins) {
  int64_t end = 0;
  begins->clear();
  for (const int64_t of_rank : bytes) {
    begins->push_back(end);
    end += (of_rank + kMessageAlignment - 1) / kMessageAlignment * kMessageAlignment;
  }
  return end;
}

std::string words_of(const RankReport& report) {
  const std::string value = std::to_string(report.value);
  switch (static_cast<RankFault>(report.fault)) {
    case RankFault::kPick:
      return "has a pick of FFN expert " + value + ", which is not held there";
    case RankFault::kPicks:
      return "has other picks than the " + value + " that it says";
    case RankFault::kRows:
      return "has with those before it " + value + " rows, more than the step's tokens";
    default:
      return "has a header that does not fit the step, of " + value + " rows";
  }
}

}  // namespace

simt::Error DeviceMemory::reserve(int64_t bytes) {
  if (bytes <= bytes_) return simt::kSuccess;
  simt::release(data_);
  data_ = nullptr, bytes_ = 0;
  const simt::Error error = simt::allocate(&data_, static_cast<size_t>(bytes));
  if (error == simt::kSuccess) bytes_ = bytes;
  return error;
}

RankLink* RankLink::of(const Ranks& ranks) {
  return static_cast<RankLink*>(ranks.group->link());
}

void RankLink::refuse(const Ranks& ranks) {
  ranks.group->fail(Status::error(Code::kUnsupported,
                                  "rows do not travel between GPUs: expected parallel: 'nccl'"));
}

// The queue outlives the step, and a recording its program, which holds the group.
void RankLink::between(CudaQueue& queue, const CudaQueue::HostWork& work) {
  queue.run_on_host([this, &queue, work] {
    queue.set_link(this);
    const Status status = work();
    return status.ok() ? status : group_.fail(status);
  });
}

Status RankLink::open(parallel::Group& group, int device, const std::string& name,
                      simt::Stream stream) {
  std::unique_ptr<RankLink> made(new RankLink(group, device, name));
  MOEPP_CHECK(made->make_memory(stream));
  MOEPP_CHECK(Nccl::open(group, name, &made->nccl_));
  group.set_link(std::move(made));
  return {};
}

RankLink::~RankLink() {
  simt::use_device(device_);
  nccl_.reset();
}

Status RankLink::make_memory(simt::Stream stream) {
  MOEPP_CHECK(status_of(whole_.reserve(2 * ranks() * kWholeBytes), name_));
  MOEPP_CHECK(status_of(arrays_.reserve(kCount * ranks() * kEntryBytes), name_));
  MOEPP_CHECK(status_of(host_.reserve(3 * (ranks() + 1) * kEntryBytes), name_));
  MOEPP_CHECK(status_of(host_begins_.reserve(2 * ranks() * kEntryBytes), name_));
  const auto bytes = static_cast<size_t>(kCount * ranks() * kEntryBytes);
  MOEPP_CHECK(status_of(simt::clear(arrays_.data(), bytes, stream), name_));
  auto* begins = reinterpret_cast<int64_t*>(host_begins_.data());
  for (int64_t r = 0; r < ranks(); r++) begins[r] = r * kWholeBytes;
  MOEPP_CHECK(
      status_of(simt::copy_to_device(arrays_.at<int64_t>(kWhole * ranks() * kEntryBytes), begins,
                                     static_cast<size_t>(ranks()) * sizeof *begins, stream),
                name_));
  counted_.resize(static_cast<size_t>(ranks()), RankReport{});
  return status_of(simt::synchronize(stream), name_);
}

RowsHeader* RankLink::sent_headers() const {
  return arrays_.at<RowsHeader>(kSentHeaders * ranks() * kEntryBytes);
}
RowsHeader* RankLink::received_headers() const {
  return arrays_.at<RowsHeader>(kReceivedHeaders * ranks() * kEntryBytes);
}
CheckedRows* RankLink::checked() const {
  return arrays_.at<CheckedRows>(kChecked * ranks() * kEntryBytes);
}
RankReport* RankLink::reports() const {
  return arrays_.at<RankReport>(kReports * ranks() * kEntryBytes);
}
MessageBox RankLink::sent_whole() const {
  return {whole_.data(), arrays_.at<int64_t>(kWhole * ranks() * kEntryBytes)};
}
MessageBox RankLink::received_whole() const {
  return {whole_.data() + ranks() * kWholeBytes,
          arrays_.at<int64_t>(kWhole * ranks() * kEntryBytes)};
}

Status RankLink::exchange_whole(int64_t bytes, simt::Stream stream) {
  std::vector<Nccl::Run> send, receive;
  for (int64_t r = 0; r < ranks(); r++) {
    send.push_back({whole_.data() + r * kWholeBytes, bytes});
    receive.push_back({whole_.data() + (ranks() + r) * kWholeBytes, bytes});
  }
  return nccl_->exchange(send, receive, stream);
}

Status RankLink::reserve(const std::vector<int64_t>& sent, const std::vector<int64_t>& received,
                         simt::Stream stream, Boxes* boxes) {
  sent_bytes_ = sent, received_bytes_ = received;
  MOEPP_CHECK(status_of(sent_.reserve(begin_all(sent, &sent_begins_)), name_));
  MOEPP_CHECK(status_of(received_.reserve(begin_all(received, &received_begins_)), name_));
  const auto bytes = static_cast<size_t>(ranks()) * sizeof(int64_t);
  std::byte* host = host_begins_.data();
  std::memcpy(host, sent_begins_.data(), bytes);
  std::memcpy(host + bytes, received_begins_.data(), bytes);
  auto* sent_at = arrays_.at<int64_t>(kSent * ranks() * kEntryBytes);
  auto* received_at = arrays_.at<int64_t>(kReceived * ranks() * kEntryBytes);
  MOEPP_CHECK(status_of(simt::copy_to_device(sent_at, host, bytes, stream), name_));
  MOEPP_CHECK(status_of(simt::copy_to_device(received_at, host + bytes, bytes, stream), name_));
  *boxes = {{sent_.data(), sent_at}, {received_.data(), received_at}};
  return {};
}

Status RankLink::exchange_reserved(simt::Stream stream) {
  std::vector<Nccl::Run> send, receive;
  for (size_t r = 0; r < sent_bytes_.size(); r++) {
    send.push_back({sent_.data() + sent_begins_[r], sent_bytes_[r]});
    receive.push_back({received_.data() + received_begins_[r], received_bytes_[r]});
  }
  return nccl_->exchange(send, receive, stream);
}

template <class T>
Status RankLink::read(const T* first, const T* second, int64_t count, simt::Stream stream,
                      std::vector<T>* firsts, std::vector<T>* seconds) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(T);
  std::byte* host = host_.data() + ranks() * kEntryBytes;  // behind the reports
  MOEPP_CHECK(status_of(simt::copy_to_host(host, first, bytes, stream), name_));
  MOEPP_CHECK(status_of(simt::copy_to_host(host + bytes, second, bytes, stream), name_));
  MOEPP_CHECK(wait(stream));
  const auto* values = reinterpret_cast<const T*>(host);
  firsts->assign(values, values + count);
  seconds->assign(values + count, values + 2 * count);
  return {};
}

Status RankLink::exchange_headers(simt::Stream stream, std::vector<RowsHeader>* sent,
                                  std::vector<RowsHeader>* received) {
  RowsHeader* came = received_headers();
  std::vector<Nccl::Run> send, receive;
  for (int64_t r = 0; r < ranks(); r++) {
    constexpr auto kBytes = static_cast<int64_t>(sizeof(RowsHeader));
    send.push_back({reinterpret_cast<std::byte*>(sent_headers() + r), kBytes});
    receive.push_back({reinterpret_cast<std::byte*>(came + r), kBytes});
  }
  MOEPP_CHECK(nccl_->exchange(send, receive, stream));
  MOEPP_CHECK(read(sent_headers(), came, ranks(), stream, sent, received));
  const auto own = static_cast<size_t>(group_.rank());
  (*received)[own] = (*sent)[own];
  return {};
}

Status RankLink::read_offsets(const int32_t* first, const int32_t* second, simt::Stream stream,
                              std::vector<int32_t>* firsts, std::vector<int32_t>* seconds) {
  return read(first, second, ranks() + 1, stream, firsts, seconds);
}

Status RankLink::wait(simt::Stream stream) {
  const auto bytes = static_cast<size_t>(ranks()) * sizeof(RankReport);
  const Status copied =
      status_of(simt::copy_to_host(host_.data(), reports(), bytes, stream), name_);
  MOEPP_CHECK(nccl_->wait(stream));
  MOEPP_CHECK(copied);
  return take_reports();
}

Status RankLink::take_reports() {
  const auto* reports = reinterpret_cast<const RankReport*>(host_.data());
  int64_t picks = 0, local = 0, rows = 0;
  for (int r = 0; r < group_.size(); r++) {
    RankReport& before = counted_[static_cast<size_t>(r)];
    const int64_t new_picks = reports[r].picks - before.picks;
    picks += new_picks;
    if (r == group_.rank()) local = new_picks;
    rows += reports[r].rows - before.rows;
    before = reports[r];
    if (before.fault == 0) continue;
    return group_.fail(Status::error(
        Code::kParallel, "the message that rank " + std::to_string(r) + " sent to rank " +
                             std::to_string(group_.rank()) + " " + words_of(before)));
  }
  group_.count_rows(rows);
  group_.count_picks(picks, local);
  return {};
}

}  // namespace moepp::cuda
