// An NVIDIA GPU as a device: memory, one stream, copies, recorded steps. Compiled by nvcc, and for
// tests by the host's compiler with an emulated GPU under it (simt/). It has not run on a GPU yet.
#include "device.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "cuda/cuda_queue.h"
#include "cuda/kernels/copy_page.h"
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"
#include "cuda/graph_recording.h"
#include "cuda/load_weight.h"
#include "cuda/rank_link.h"
#include "cuda/staging.h"
#include "cuda/status_of.h"
#include "cuda/watched_memory.h"
#include "weights/packed_blocks.h"
#include "weights/weights.h"

namespace moepp {

namespace cuda {
namespace {

constexpr int kOldestCapability = 75;  // Turing
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kStagedResultBytes = int64_t{4} << 20;  // of a step

const Kernels& table() {
  static const Kernels kernels = {
#define MOEPP_KERNEL(name, Args) name,
      MOEPP_OPS(MOEPP_KERNEL, MOEPP_KERNEL)
#undef MOEPP_KERNEL
  };
  return kernels;
}

// Compiled for every architecture that the kernels are: it is missing where they are, and tells
// what they were compiled for.
__global__ void probe(int* code) {
  if (threadIdx.x != 0) return;
  code[0] = simt::compiled_capability();
  code[1] = simt::compiled_for_sm90a() ? 1 : 0;
}

// CUDA's current device is the calling thread's, and steps run on any thread of a pool: every entry
// names the device first. One step at a time: programs that share the device share its stream and
// its workspace.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {}
  ~CudaDevice() override {
    simt::use_device(index_);
    stagings_.release();
    if (stream_ != nullptr) simt::destroy_stream(stream_);
    if (memory_stream_ != nullptr) simt::destroy_stream(memory_stream_);
    if (workspace_ != nullptr) simt::release(workspace_);
  }

  Status open();

  DeviceInfo info() const override {
    const Compiled& code = queue_->compiled();
    DeviceInfo info = {name(), "sm_" + std::to_string(code.capability) + (code.wgmma ? "a" : ""), 1,
                       properties_.name};
    info.debug = debug_;
    info.multiprocessors = properties_.multiprocessors;
    size_t free_bytes = 0, total_bytes = 0;
    if (simt::use_device(index_) == simt::kSuccess &&
        simt::memory_info(&free_bytes, &total_bytes) == simt::kSuccess) {
      info.free_bytes = static_cast<int64_t>(free_bytes);
      info.total_bytes = static_cast<int64_t>(total_bytes);
    }
    return info;
  }
  const Kernels& kernels() const override { return table(); }
  Queue& queue() override { return *queue_; }

  void* allocate(int64_t bytes) override;
  void release(void* data, int64_t) override {
    simt::use_device(index_);
    simt::release(data);
    simt::clear_error();
  }

  Status fault() const override {
    size_t free_bytes = 0, total_bytes = 0;
    MOEPP_CHECK(enter());
    return check(simt::memory_info(&free_bytes, &total_bytes));
  }

  int64_t weight_bytes(const WeightSpec& spec, Layout layout) const override {
    return cuda::weight_bytes(spec, layout);
  }
  Status load_weight(const WeightSpec& spec, Layout layout, void* data,
                     const Control& control) override {
    MOEPP_CHECK(enter());
    Stagings::Lease lease(stagings_, memory_stream_);
    return cuda::load_weight(
        {spec, layout, data, memory_stream_, name(), control, lease.staging()});
  }

  // Files hold int8 and int4 weights as the CPU's panels: they are laid out anew on their way.
  int64_t packed_bytes(const WeightSpec& spec, Layout layout) const override {
    return cuda::packed_bytes(spec, layout);
  }
  Status load_packed(const WeightSpec& spec, Layout layout, const std::byte* packed, void* data,
                     const Control& control) override {
    MOEPP_CHECK(enter());
    Stagings::Lease lease(stagings_, memory_stream_);
    return cuda::load_packed({spec, layout, data, memory_stream_, name(), control, lease.staging()},
                             packed);
  }
  void end_loading() override {
    if (enter().ok()) stagings_.release();
  }

  Status copy_page(const KvView& cache, int64_t from, int64_t to) override;
  Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) override;
  Status write_page(const KvView& cache, int64_t layer, int64_t page, const float* values) override;

  bool holds_float8() const override { return true; }
  bool uses_mapped_weights() const override { return false; }
  bool uses_callers_memory() const override { return false; }
  bool runs_at_once() const override { return false; }
  bool reads_bf16(const LinearArgs& args) const override { return product_reads_bf16(args); }
  bool reads_bf16(const GroupedGemmArgs& args) const override { return product_reads_bf16(args); }
  Status begin_step() override {
    step_.lock();
    if (stages_ != nullptr) stages_->restart();
    queue_->set_link(nullptr);
    const Status status = enter();
    if (!status.ok()) step_.unlock();
    return status;
  }
  Status upload(const std::vector<Transfer>& pieces) override;
  Status flush() {
    queue_->flush();
    return launched();
  }
  Status launched() override {
    const simt::Error error = queue_->take_error();
    return error == simt::kOutOfResources
               ? too_little_shared_memory(name(), properties_, queue_->refused_shared_bytes())
               : check(error);
  }
  Status download(const std::vector<Transfer>& pieces) override;
  Status end_step() override;
  // None where an op may run later, in one kernel with others.
  int64_t watched_gap() const override { return stages_ == nullptr ? WatchedMemory::kGap : 0; }
  void watch(const OpMemory& memory) override { watched_.begin_op(memory, stream_); }
  void look_ahead(const WeightAhead& weight) override { queue_->look_ahead(weight); }

  Status record(const std::function<Status()>& enqueue,
                std::unique_ptr<Recording>* recording) override;
  Status replay(const Recording& recording) override {
    return static_cast<const GraphRecording&>(recording).replay(name());
  }
  Status join(parallel::Group& group) override {
    MOEPP_CHECK(enter());
    return RankLink::open(group, index_, name(), memory_stream_);
  }

 private:
  std::string name() const { return "cuda:" + std::to_string(index_); }
  int capability() const { return 10 * properties_.major + properties_.minor; }
  std::string capability_text() const {
    return std::to_string(properties_.major) + "." + std::to_string(properties_.minor);
  }
  Status find_code() const;
  Status probe_code(int (&code)[2]);
  template <class Args>
  bool product_reads_bf16(const Args& args) const {
    return !switches_.no_bf16 && cuda::reads_bf16(gemm_of(args), *queue_);
  }
  Status check(simt::Error error) const { return status_of(error, name()); }
  Status enter() const { return check(simt::use_device(index_)); }

  const int index_;
  std::vector<std::string> debug_;
  Switches switches_;
  simt::DeviceProperties properties_ = {};
  // of steps; of loading, which may go on beside a step
  simt::Stream stream_ = nullptr, memory_stream_ = nullptr;
  void* workspace_ = nullptr;
  std::unique_ptr<CudaQueue> queue_;
  std::unique_ptr<StageList> stages_;  // of steps that are not recorded; null without the switch
  Stagings stagings_;
  HostMemory inputs_, results_;     // of a step, on their way
  std::vector<Transfer> arriving_;  // pieces of results_
  WatchedMemory watched_;
  std::mutex step_;
};

Status CudaDevice::open() {
  int count = 0;
  MOEPP_CHECK(check(simt::count_devices(&count)));
  if (index_ < 0 || index_ >= count) {
    return Status::error(Code::kNoGpu, name() + ": this machine has " + std::to_string(count) +
                                           " CUDA device" + (count == 1 ? "" : "s") +
                                           ", numbered from 0");
  }
  MOEPP_CHECK(enter());
  MOEPP_CHECK(check(simt::device_properties(index_, &properties_)));
  if (capability() < kOldestCapability) {
    return Status::error(Code::kGpuTooOld, name() + ": " + properties_.name +
                                               " has compute capability " + capability_text() +
                                               ", 7.5 or newer is needed");
  }
  debug_ = debug_words();
  MOEPP_CHECK(read_switches(debug_, &switches_));
  MOEPP_CHECK(find_code());
  MOEPP_CHECK(check(simt::create_stream(&stream_)));
  MOEPP_CHECK(check(simt::create_stream(&memory_stream_)));
  constexpr size_t kCounterBytes = CudaQueue::kCounters * sizeof(unsigned);
  MOEPP_CHECK(
      check(simt::allocate(&workspace_, static_cast<size_t>(kWorkspaceBytes) + kCounterBytes)));
  auto* counters = static_cast<std::byte*>(workspace_) + kWorkspaceBytes;
  MOEPP_CHECK(check(simt::clear(counters, kCounterBytes, stream_)));
  int code[2];
  MOEPP_CHECK(probe_code(code));
  queue_ = std::make_unique<CudaQueue>(stream_, properties_.multiprocessors,
                                       Compiled(code[0], code[1] != 0), switches_);
  queue_->set_block_shared_bytes(properties_.block_shared_bytes);
  queue_->set_l2_bytes(properties_.l2_bytes);
  queue_->set_workspace(workspace_, kWorkspaceBytes);
  queue_->set_counters(reinterpret_cast<unsigned*>(counters));
  if (!switches_.persistent) return {};
  MOEPP_CHECK(check_persistent(name(), code[0]));
  MOEPP_CHECK(check(StageList::create(false, stream_, &stages_)));
  queue_->set_stages(stages_.get());
  return {};
}

Status CudaDevice::find_code() const {
  const simt::Error error = simt::find_code(probe);
  if (simt::fault_of(error) != simt::Fault::kNoCode) return check(error);
  simt::clear_error();
  return Status::error(Code::kUnsupported,
                       name() + ": " + properties_.name + " has compute capability " +
                           capability_text() +
                           ", for which this build has no kernels (MOEPP_CUDA_ARCHITECTURES)");
}

// Through the workspace, which no step uses yet.
Status CudaDevice::probe_code(int (&code)[2]) {
  const simt::Launch how = {dim3(1), dim3(32), 0, stream_};
  MOEPP_CHECK(check(simt::launch(probe, how, static_cast<int*>(workspace_))));
  MOEPP_CHECK(check(simt::copy_to_host(code, workspace_, sizeof code, stream_)));
  return check(simt::synchronize(stream_));
}

void* CudaDevice::allocate(int64_t bytes) {
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* data = nullptr;
  if (simt::use_device(index_) != simt::kSuccess || simt::allocate(&data, size) != simt::kSuccess) {
    simt::clear_error();
    return nullptr;
  }
  if (simt::clear(data, size, memory_stream_) == simt::kSuccess &&
      simt::synchronize(memory_stream_) == simt::kSuccess)
    return data;
  simt::release(data);
  simt::clear_error();
  return nullptr;
}

Status CudaDevice::upload(const std::vector<Transfer>& pieces) {
  const Stretch inputs(pieces);
  if (inputs.bytes == 0) return {};
  MOEPP_CHECK(check(inputs_.reserve(inputs.bytes)));
  for (const Transfer& piece : pieces) {
    if (piece.bytes > 0)
      std::memcpy(inputs.in(inputs_.data(), piece), piece.host, static_cast<size_t>(piece.bytes));
  }
  return check(simt::copy_to_device(inputs.data, inputs_.data(), static_cast<size_t>(inputs.bytes),
                                    stream_));
}

// One copy to page-locked memory, from where end_step brings the pieces to the caller. To other
// memory the driver copies piece by piece, and waits for each. With large results that takes no
// longer, and so much memory should not be page-locked.
Status CudaDevice::download(const std::vector<Transfer>& pieces) {
  MOEPP_CHECK(flush());
  watched_.end_ops(stream_);
  const Stretch results(pieces);
  if (results.bytes == 0) return {};
  if (results.bytes > kStagedResultBytes) {
    for (const Transfer& piece : pieces) {
      if (piece.bytes == 0) continue;  // its host memory may be null
      MOEPP_CHECK(check(
          simt::copy_to_host(piece.host, piece.device, static_cast<size_t>(piece.bytes), stream_)));
    }
    return {};
  }
  MOEPP_CHECK(check(results_.reserve(kStagedResultBytes)));
  MOEPP_CHECK(check(simt::copy_to_host(results_.data(), results.data,
                                       static_cast<size_t>(results.bytes), stream_)));
  arriving_ = pieces;
  return {};
}

Status CudaDevice::end_step() {
  watched_.end_ops(stream_);
  const Status launched = flush();
  RankLink* const link = queue_->link();
  const Status ended = link != nullptr ? link->wait(stream_) : check(simt::synchronize(stream_));
  if (ended.ok() && !arriving_.empty()) {
    const Stretch results(arriving_);
    for (const Transfer& piece : arriving_) {
      if (piece.bytes > 0)
        std::memcpy(piece.host, results.in(results_.data(), piece),
                    static_cast<size_t>(piece.bytes));
    }
  }
  arriving_.clear();
  step_.unlock();
  return launched.ok() ? ended : launched;
}

Status CudaDevice::record(const std::function<Status()>& enqueue,
                          std::unique_ptr<Recording>* recording) {
  if (switches_.no_graph || switches_.sync) return enqueue();
  const auto flushed = [&]() -> Status {
    MOEPP_CHECK(enqueue());
    return flush();
  };
  const Status status =
      GraphRecording::make(*queue_, stages_ != nullptr, name(), flushed, recording);
  queue_->set_stages(stages_.get());
  return status;
}

// The next step is behind it in the stream.
Status CudaDevice::copy_page(const KvView& cache, int64_t from, int64_t to) {
  const std::lock_guard<std::mutex> lock(step_);
  MOEPP_CHECK(enter());
  cuda::copy_page(cache, from, to, *queue_);
  return launched();
}

// The order of a page in memory is that of read_page: kv_layout.cuh.
static std::byte* page_of(const KvView& cache, int64_t layer, int64_t page) {
  return static_cast<std::byte*>(cache.data) +
         kv_keys(cache, layer, page, 0) * dtype_size(cache.dtype);
}

Status CudaDevice::read_page(const KvView& cache, int64_t layer, int64_t page, float* out) {
  const std::lock_guard<std::mutex> lock(step_);
  MOEPP_CHECK(enter());
  const int64_t elements = cache.page_elements();
  std::vector<std::byte> bytes(static_cast<size_t>(elements * dtype_size(cache.dtype)));
  MOEPP_CHECK(
      check(simt::copy_to_host(bytes.data(), page_of(cache, layer, page), bytes.size(), stream_)));
  MOEPP_CHECK(check(simt::synchronize(stream_)));
  convert_row({bytes.data(), cache.dtype}, 0, elements, DType::kF32,
              reinterpret_cast<std::byte*>(out));
  return {};
}

Status CudaDevice::write_page(const KvView& cache, int64_t layer, int64_t page,
                              const float* values) {
  const std::lock_guard<std::mutex> lock(step_);
  MOEPP_CHECK(enter());
  const int64_t elements = cache.page_elements();
  std::vector<std::byte> bytes(static_cast<size_t>(elements * dtype_size(cache.dtype)));
  convert_row({reinterpret_cast<const std::byte*>(values)}, 0, elements, cache.dtype, bytes.data());
  MOEPP_CHECK(check(
      simt::copy_to_device(page_of(cache, layer, page), bytes.data(), bytes.size(), stream_)));
  return check(simt::synchronize(stream_));
}

}  // namespace
}  // namespace cuda

Status open_cuda_device(int index, std::shared_ptr<Device>* device) {
  auto opened = std::make_shared<cuda::CudaDevice>(index);
  MOEPP_CHECK(opened->open());
  *device = std::move(opened);
  return {};
}

CudaInfo cuda_info() {
  CudaInfo info = {true, simt::runtime_version(), simt::driver_version(), 0, {}, {}};
  for (const auto& launches : cuda::gemm_launches()) info.products.push_back(launches.load());
  const simt::Error error = simt::count_devices(&info.devices);
  if (error != simt::kSuccess) {
    info.devices = 0;
    info.problem = cuda::status_of(error, "CUDA").message;
  }
  return info;
}

}  // namespace moepp
