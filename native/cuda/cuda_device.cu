// An NVIDIA GPU as a device: memory, one stream, copies, recorded steps. Compiled by nvcc, and for tests by the host's compiler
// with an emulated GPU under it (simt/). It has not run on a GPU yet.
#include "device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "cuda/kv_layout.cuh"
#include "cuda/staging.h"
#include "cuda/weight_layout.h"
#include "packed_blocks.h"
#include "stacked_rows.h"

namespace moepp {

namespace cuda {
namespace {

constexpr int kOldestCapability = 75;  // Turing
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kStagingBytes = int64_t{8} << 20;  // of weights at a time, twice

const Kernels& table() {
  static const Kernels kernels = {
#define MOEPP_OP(name, Args) &name,
#include "ops.inc"
#undef MOEPP_OP
  };
  return kernels;
}

// Compiled for every architecture that the kernels are: where it is missing, so are they.
__global__ void probe() {}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// A failed call as the status that a user understands.
Status failure(simt::Error error, const std::string& device) {
  simt::clear_error();
  switch (simt::fault_of(error)) {
    case simt::Fault::kNone:
      return {};
    case simt::Fault::kNoDriver:
      return Status::error(Code::kNoGpu, device + ": there is no NVIDIA driver on this machine");
    case simt::Fault::kOldDriver:
      return Status::error(Code::kDriverTooOld, device + ": the NVIDIA driver supports CUDA " +
                                                    version_text(simt::driver_version()) + ", this build needs CUDA " +
                                                    version_text(simt::runtime_version()) + " (driver 580 or newer)");
    case simt::Fault::kNoDevice:
      return Status::error(Code::kNoGpu, device + ": " + simt::error_text(error));
    case simt::Fault::kOutOfMemory:
      return Status::error(Code::kOutOfMemory, device + ": out of memory");
    case simt::Fault::kNoCode:
    case simt::Fault::kOther:
      break;
  }
  return Status::error(Code::kDevice, device + ": " + simt::error_text(error));
}

// body(i) for i in [first, last), on all processors; without threads that cannot be started.
template <class Body>
void parallel_for(int64_t first, int64_t last, const Body& body) {
  std::atomic<int64_t> next{first};
  const auto work = [&] {
    for (int64_t i = next++; i < last; i = next++) body(i);
  };
  const int64_t helpers = std::min<int64_t>(std::thread::hardware_concurrency(), last - first) - 1;
  std::vector<std::thread> threads;
  try {
    while (static_cast<int64_t>(threads.size()) < helpers) threads.emplace_back(work);
  } catch (const std::system_error&) {
  }
  work();
  for (std::thread& thread : threads) thread.join();
}

#define MOEPP_CUDA_CHECK(call)                                    \
  do {                                                            \
    const simt::Error error_ = (call);                            \
    if (error_ != simt::kSuccess) return failure(error_, name()); \
  } while (0)

class GraphRecording final : public Recording {
 public:
  explicit GraphRecording(simt::Graph graph) : graph_(graph) {}
  ~GraphRecording() override { simt::destroy_graph(graph_); }
  simt::Graph graph() const { return graph_; }

 private:
  simt::Graph graph_;
};

// CUDA's current device is the calling thread's, and steps run on any thread of a pool: every entry names the device first.
// One step at a time: programs that share the device share its stream and its workspace.
class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {}
  ~CudaDevice() override {
    simt::use_device(index_);
    if (stream_ != nullptr) simt::destroy_stream(stream_);
    if (memory_stream_ != nullptr) simt::destroy_stream(memory_stream_);
    if (workspace_ != nullptr) simt::release(workspace_);
  }

  Status open();

  DeviceInfo info() const override {
    DeviceInfo info = {name(), "sm_" + std::to_string(capability()), 1, properties_.name};
    size_t free_bytes = 0, total_bytes = 0;
    if (simt::use_device(index_) == simt::kSuccess && simt::memory_info(&free_bytes, &total_bytes) == simt::kSuccess) {
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
    MOEPP_CUDA_CHECK(simt::memory_info(&free_bytes, &total_bytes));
    return {};
  }

  int64_t weight_bytes(const WeightSpec& spec, Layout layout) const override {
    const WeightShape shape(spec);
    return layout == Layout::kRows ? elements_of(spec.shape) * dtype_size(spec.dtype)
                                   : cuda::weight_bytes(spec.dtype, layout, shape.groups, shape.rows, shape.inputs);
  }
  Status load_weight(const WeightSpec& spec, Layout layout, void* data, const Control& control) override;

  // Files hold int8 and int4 weights as the CPU's panels: they are laid out anew on their way.
  std::string packed_layout() const override { return cpu::kPackedLayoutName; }
  int64_t packed_bytes(const WeightSpec& spec, Layout layout) const override {
    const WeightShape shape(spec);
    return shape.groups * packed_group_bytes(spec.dtype, layout, shape.rows, shape.inputs);
  }
  Status load_packed(const WeightSpec& spec, Layout layout, const std::byte* packed, void* data,
                     const Control& control) override {
    MOEPP_CHECK(enter());
    return spec.dtype == DType::kI8 ? repack<Int8Block>(spec, layout, packed, data, control)
                                    : repack<Int4Block>(spec, layout, packed, data, control);
  }

  Status copy_page(const KvView& cache, int64_t from, int64_t to) override;
  Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) override;

  bool uses_host_memory() const override { return false; }
  Status begin_step() override {
    step_.lock();
    const Status status = enter();
    if (!status.ok()) step_.unlock();
    return status;
  }
  Status upload(const std::vector<Transfer>& pieces) override;
  Status launched() override {
    const simt::Error error = queue_->take_error();
    if (error == simt::kOutOfResources) return too_little_shared_memory();
    return error == simt::kSuccess ? Status{} : failure(error, name());
  }
  Status download(const std::vector<Transfer>& pieces) override {
    for (const Transfer& piece : pieces) {
      MOEPP_CUDA_CHECK(simt::copy_to_host(piece.host, piece.device, static_cast<size_t>(piece.bytes), stream_));
    }
    return {};
  }
  Status end_step() override {
    const simt::Error error = simt::synchronize(stream_);
    step_.unlock();
    return error == simt::kSuccess ? Status{} : failure(error, name());
  }

  Status record(const std::function<Status()>& enqueue, std::unique_ptr<Recording>* recording) override;
  Status replay(const Recording& recording) override {
    MOEPP_CUDA_CHECK(simt::launch_graph(static_cast<const GraphRecording&>(recording).graph(), stream_));
    return {};
  }

 private:
  struct WeightShape {
    int64_t groups, rows, inputs;
    explicit WeightShape(const WeightSpec& spec) {
      const size_t rank = spec.shape.size();
      groups = rank == 3 ? spec.shape[0] : 1;
      rows = rank >= 2 ? spec.shape[rank - 2] : 1;
      inputs = rank >= 1 ? spec.shape[rank - 1] : 1;
    }
  };

  // read_block(row, b, &block) makes block b of a row, counted over all groups, from several threads; false: it holds a NaN or an
  // infinity.
  template <class Block, class ReadBlock>
  Status load_quantised(const WeightSpec& spec, Layout layout, void* data, const Control& control, const ReadBlock& read_block);
  template <class Block>
  Status quantise_weight(const WeightSpec& spec, Layout layout, const StackedRows& rows, void* data, const Control& control);
  template <class Block>
  Status repack(const WeightSpec& spec, Layout layout, const std::byte* packed, void* data, const Control& control);

  std::string name() const { return "cuda:" + std::to_string(index_); }
  int capability() const { return 10 * properties_.major + properties_.minor; }
  std::string capability_text() const { return std::to_string(properties_.major) + "." + std::to_string(properties_.minor); }
  Status too_little_shared_memory() const {
    return Status::error(Code::kUnsupported, name() + ": " + properties_.name + " has " +
                                                 std::to_string(properties_.block_shared_bytes) +
                                                 " bytes of shared memory for a block, a model of these sizes needs " +
                                                 std::to_string(queue_->refused_shared_bytes()));
  }
  Status enter() const {
    MOEPP_CUDA_CHECK(simt::use_device(index_));
    return {};
  }

  const int index_;
  simt::DeviceProperties properties_ = {};
  simt::Stream stream_ = nullptr, memory_stream_ = nullptr;  // of steps; of loading, which may go on beside a step
  void* workspace_ = nullptr;
  std::unique_ptr<CudaQueue> queue_;
  HostMemory step_staging_;
  std::mutex step_;
};

Status CudaDevice::open() {
  int count = 0;
  MOEPP_CUDA_CHECK(simt::count_devices(&count));
  if (index_ < 0 || index_ >= count) {
    return Status::error(Code::kNoGpu, name() + ": this machine has " + std::to_string(count) + " CUDA device" +
                                           (count == 1 ? "" : "s") + ", numbered from 0");
  }
  MOEPP_CHECK(enter());
  MOEPP_CUDA_CHECK(simt::device_properties(index_, &properties_));
  if (capability() < kOldestCapability) {
    return Status::error(Code::kGpuTooOld, name() + ": " + properties_.name + " has compute capability " + capability_text() +
                                               ", 7.5 or newer is needed");
  }
  const simt::Error probed = simt::find_code(probe);
  if (simt::fault_of(probed) == simt::Fault::kNoCode) {
    return Status::error(Code::kUnsupported, name() + ": " + properties_.name + " has compute capability " + capability_text() +
                                                 ", for which this build has no kernels (MOEPP_CUDA_ARCHITECTURES)");
  }
  MOEPP_CUDA_CHECK(probed);
  MOEPP_CUDA_CHECK(simt::create_stream(&stream_));
  MOEPP_CUDA_CHECK(simt::create_stream(&memory_stream_));
  constexpr size_t kCounterBytes = CudaQueue::kCounters * sizeof(unsigned);
  MOEPP_CUDA_CHECK(simt::allocate(&workspace_, static_cast<size_t>(kWorkspaceBytes) + kCounterBytes));
  auto* counters = static_cast<std::byte*>(workspace_) + kWorkspaceBytes;
  MOEPP_CUDA_CHECK(simt::clear(counters, kCounterBytes, stream_));
  queue_ = std::make_unique<CudaQueue>(stream_, properties_.multiprocessors, capability());
  queue_->set_block_shared_bytes(properties_.block_shared_bytes);
  queue_->set_workspace(workspace_, kWorkspaceBytes);
  queue_->set_counters(reinterpret_cast<unsigned*>(counters));
  return {};
}

void* CudaDevice::allocate(int64_t bytes) {
  const auto size = static_cast<size_t>(std::max<int64_t>(bytes, 1));
  void* data = nullptr;
  if (simt::use_device(index_) != simt::kSuccess || simt::allocate(&data, size) != simt::kSuccess) {
    simt::clear_error();
    return nullptr;
  }
  if (simt::clear(data, size, memory_stream_) == simt::kSuccess && simt::synchronize(memory_stream_) == simt::kSuccess)
    return data;
  simt::release(data);
  simt::clear_error();
  return nullptr;
}

// The pieces lie one behind the other on the device: put together on the host, they are one copy.
Status CudaDevice::upload(const std::vector<Transfer>& pieces) {
  if (pieces.empty()) return {};
  auto* first = static_cast<std::byte*>(pieces.front().device);
  const int64_t bytes = static_cast<std::byte*>(pieces.back().device) + pieces.back().bytes - first;
  if (bytes == 0) return {};
  MOEPP_CUDA_CHECK(step_staging_.reserve(bytes));
  for (const Transfer& piece : pieces) {
    const int64_t at = static_cast<std::byte*>(piece.device) - first;
    if (piece.bytes > 0) std::memcpy(step_staging_.data() + at, piece.host, static_cast<size_t>(piece.bytes));
  }
  MOEPP_CUDA_CHECK(simt::copy_to_device(first, step_staging_.data(), static_cast<size_t>(bytes), stream_));
  return {};
}

Status CudaDevice::record(const std::function<Status()>& enqueue, std::unique_ptr<Recording>* recording) {
  MOEPP_CUDA_CHECK(simt::begin_capture(stream_));
  const Status status = enqueue();
  simt::Graph graph = nullptr;
  const simt::Error error = simt::end_capture(stream_, &graph);
  if (graph != nullptr) *recording = std::make_unique<GraphRecording>(graph);
  if (!status.ok()) recording->reset();
  MOEPP_CHECK(status);
  MOEPP_CUDA_CHECK(error);
  return {};
}

// Packs on the host, a stretch of rows at a time, while the stretch before is on its way.
Status CudaDevice::load_weight(const WeightSpec& spec, Layout layout, void* data, const Control& control) {
  StackedRows rows;
  MOEPP_CHECK(StackedRows::open(spec, &rows));
  MOEPP_CHECK(enter());
  if (spec.dtype == DType::kI8) return quantise_weight<Int8Block>(spec, layout, rows, data, control);
  if (spec.dtype == DType::kI4) return quantise_weight<Int4Block>(spec, layout, rows, data, control);
  const WeightShape shape(spec);
  const int64_t size = dtype_size(spec.dtype), used = shape.inputs * size;
  const int64_t pitch = layout == Layout::kRows ? used : weight_pitch(spec.dtype, shape.inputs) * size;
  const int64_t group_rows = weight_rows(layout, shape.rows), total = shape.groups * group_rows;
  const int64_t at_once = std::max<int64_t>(1, kStagingBytes / std::max<int64_t>(1, pitch));
  Staging staging(memory_stream_);
  for (int64_t first = 0; first < total; first += at_once) {
    if (control.is_cancelled()) return Status::error(Code::kAborted, "loading was cancelled");
    const int64_t last = std::min(total, first + at_once);
    std::byte* to = nullptr;
    MOEPP_CUDA_CHECK(staging.next((last - first) * pitch, &to));
    std::byte* at = to;
    for (int64_t place = first; place < last; place++, at += pitch) {
      const int64_t group = place / group_rows, row = weight_row_at(layout, shape.rows, place % group_rows);
      if (row >= 0) {
        const PackRow source = rows.row(group * shape.rows + row);
        convert_elements(source.dtype, source.data, source.stride, spec.dtype, at, shape.inputs);
      }
      std::memset(row < 0 ? at : at + used, 0, static_cast<size_t>(row < 0 ? pitch : pitch - used));
    }
    if (layout != Layout::kGateUpPanels) rows.drop(first, last);
    MOEPP_CUDA_CHECK(staging.send(static_cast<std::byte*>(data) + first * pitch, (last - first) * pitch));
    control.add((last - first) * pitch);
  }
  MOEPP_CUDA_CHECK(simt::synchronize(memory_stream_));
  return {};
}

// A group at a time: the values of a stretch of rows after the other, then the group's words.
template <class Block, class ReadBlock>
Status CudaDevice::load_quantised(const WeightSpec& spec, Layout layout, void* data, const Control& control,
                                  const ReadBlock& read_block) {
  const WeightShape shape(spec);
  const int64_t stored = weight_rows(layout, shape.rows), row_bytes = weight_row_bytes(spec.dtype, shape.inputs);
  const int64_t at_once = std::max<int64_t>(1, kStagingBytes / std::max<int64_t>(1, row_bytes));
  std::vector<uint32_t> words(static_cast<size_t>(quant_blocks(shape.inputs) * scale_rows(stored)));
  const auto word_bytes = static_cast<int64_t>(words.size() * sizeof(uint32_t));
  std::atomic<int64_t> bad_row{-1};
  auto* target = static_cast<std::byte*>(data);
  std::byte* staged = nullptr;
  Staging staging(memory_stream_);
  for (int64_t group = 0; group < shape.groups; group++) {
    for (int64_t first = 0; first < stored; first += at_once) {
      if (control.is_cancelled()) return Status::error(Code::kAborted, "loading was cancelled");
      const int64_t last = std::min(stored, first + at_once), bytes = (last - first) * row_bytes;
      MOEPP_CUDA_CHECK(staging.next(bytes, &staged));
      parallel_for(first, last, [&](int64_t place) {
        const int64_t row = weight_row_at(layout, shape.rows, place), index = group * shape.rows + row;
        const auto read = [&](int64_t b, Block* block) {
          *block = {};
          return row < 0 || read_block(index, b, block);
        };
        auto* values = reinterpret_cast<unsigned char*>(staged + (place - first) * row_bytes);
        if (!pack_quantised_row<Block>(stored, place, shape.inputs, values, words.data(), read)) bad_row.store(index);
      });
      if (bad_row.load() >= 0) {
        return Status::error(Code::kBadWeights, spec.name + ": row " + std::to_string(bad_row.load()) +
                                                    " holds a NaN or an infinity, which " + dtype_name(spec.dtype) +
                                                    " cannot; expected finite values");
      }
      MOEPP_CUDA_CHECK(staging.send(target, bytes));
      target += bytes;
      control.add(bytes);
    }
    MOEPP_CUDA_CHECK(staging.next(word_bytes, &staged));
    std::memcpy(staged, words.data(), static_cast<size_t>(word_bytes));
    MOEPP_CUDA_CHECK(staging.send(target, word_bytes));
    target += word_bytes;
    control.add(word_bytes);
  }
  MOEPP_CUDA_CHECK(simt::synchronize(memory_stream_));
  return {};
}

bool quantise(const float* values, Int8Block* block) {
  return quantise_int8(values, block);
}
bool quantise(const float* values, Int4Block* block) {
  return quantise_int4(values, block);
}

template <class Block>
Status CudaDevice::quantise_weight(const WeightSpec& spec, Layout layout, const StackedRows& rows, void* data,
                                   const Control& control) {
  return load_quantised<Block>(spec, layout, data, control, [&](int64_t row, int64_t b, Block* block) {
    const PackRow from = rows.row(row);
    const int64_t begin = b * kQuantBlock, count = std::min(kQuantBlock, rows.length() - begin);
    float values[kQuantBlock] = {};
    convert_elements(from.dtype, from.data + begin * from.stride * dtype_size(from.dtype), from.stride, DType::kF32,
                     reinterpret_cast<std::byte*>(values), count);
    return quantise(values, block);
  });
}

template <class Block>
Status CudaDevice::repack(const WeightSpec& spec, Layout layout, const std::byte* packed, void* data, const Control& control) {
  const WeightShape shape(spec);
  const int64_t group_bytes = packed_group_bytes(spec.dtype, layout, shape.rows, shape.inputs);
  return load_quantised<Block>(spec, layout, data, control, [&](int64_t row, int64_t b, Block* block) {
    const auto* group = reinterpret_cast<const unsigned char*>(packed + row / shape.rows * group_bytes);
    read_packed_block(group, spec.dtype, layout, shape.rows, shape.inputs, row % shape.rows, b, block);
    return true;
  });
}

Status CudaDevice::copy_page(const KvView& cache, int64_t from, int64_t to) {
  const std::lock_guard<std::mutex> lock(step_);
  MOEPP_CHECK(enter());
  const auto bytes = static_cast<size_t>(kv_page_elements(cache) * dtype_size(cache.dtype));
  auto* pages = static_cast<std::byte*>(cache.data);
  MOEPP_CUDA_CHECK(simt::copy_pieces(pages + static_cast<size_t>(to) * bytes, pages + static_cast<size_t>(from) * bytes,
                                     static_cast<size_t>(cache.pages) * bytes, bytes, static_cast<size_t>(cache.layers),
                                     stream_));
  return {};  // the next step is behind it in the stream
}

Status CudaDevice::read_page(const KvView& cache, int64_t layer, int64_t page, float* out) {
  const std::lock_guard<std::mutex> lock(step_);
  MOEPP_CHECK(enter());
  const int64_t elements = kv_page_elements(cache), size = dtype_size(cache.dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(elements * size));
  const std::byte* from = static_cast<const std::byte*>(cache.data) + kv_keys(cache, layer, page, 0) * size;
  MOEPP_CUDA_CHECK(simt::copy_to_host(bytes.data(), from, bytes.size(), stream_));
  MOEPP_CUDA_CHECK(simt::synchronize(stream_));
  convert_elements(cache.dtype, bytes.data(), 1, DType::kF32, reinterpret_cast<std::byte*>(out), elements);
  return {};
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
  CudaInfo info;
  info.built = true;
  info.runtime_version = simt::runtime_version();
  info.driver_version = simt::driver_version();
  const simt::Error error = simt::count_devices(&info.devices);
  if (error != simt::kSuccess) {
    info.devices = 0;
    info.problem = cuda::failure(error, "CUDA").message;
  }
  return info;
}

}  // namespace moepp
