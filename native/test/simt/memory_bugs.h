// A program on the emulated GPU whose norm is a kernel of this file. Each bug touches memory that
// holds nothing, or that is another buffer's.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/kernels/kernels.h"
#include "opened_device.h"
#include "seeded_bugs_run.h"
#include "small_model.h"

namespace moepp::simt_test {

enum class MemoryBug { kNone, kAddsToOutput, kAddsToWorkspace, kWritesPast };

// As rms_norm, a row each thread. squares: of each row.
template <MemoryBug bug>
__global__ void norm_rows(const float* x, const float* weight, float* out, float* squares, int rows,
                          int h, float eps) {
  simt::wait_for_dependencies();
  const int row = threadIdx.x;
  if (row >= rows) return;
  if (bug != MemoryBug::kAddsToWorkspace) squares[row] = 0.0f;
  for (int i = 0; i < h; i++) squares[row] += x[row * h + i] * x[row * h + i];
  const float scale = 1.0f / sqrtf(squares[row] / static_cast<float>(h) + eps);
  const int end = bug == MemoryBug::kWritesPast && row + 1 == rows ? h + 1 : h;
  for (int i = 0; i < end; i++) {
    const float before = bug == MemoryBug::kAddsToOutput ? out[row * h + i] : 0.0f;
    out[row * h + i] = before + x[row * h + i] * scale * weight[i % h];
  }
}

template <MemoryBug bug>
void norm(const RmsNormArgs& args, Queue& queue) {
  if (args.delta != nullptr) return cuda::rms_norm(args, queue);
  cuda::CudaQueue& stream = cuda::CudaQueue::from(queue);
  const int rows = static_cast<int>(args.x->shape[0]), h = static_cast<int>(args.x->shape[1]);
  auto* squares = static_cast<float*>(stream.workspace(rows * int64_t{4}));
  stream.launch(norm_rows<bug>, {dim3(1), dim3(64)}, static_cast<const float*>(args.x->data),
                static_cast<const float*>(args.weight->data), static_cast<float*>(args.out->data),
                squares, rows, h, args.eps);
}

// The CUDA device with another norm.
class OtherNorm final : public Device {
 public:
  explicit OtherNorm(void (*norm)(const RmsNormArgs&, Queue&)) : kernels_(device_->kernels()) {
    kernels_.rms_norm = norm;
  }

  DeviceInfo info() const override { return device_->info(); }
  const Kernels& kernels() const override { return kernels_; }
  Queue& queue() override { return device_->queue(); }
  void* allocate(int64_t bytes) override { return device_->allocate(bytes); }
  void release(void* data, int64_t bytes) override { device_->release(data, bytes); }
  int64_t weight_bytes(const WeightSpec& spec, Layout layout) const override {
    return device_->weight_bytes(spec, layout);
  }
  Status load_weight(const WeightSpec& spec, Layout layout, void* data,
                     const Control& control) override {
    return device_->load_weight(spec, layout, data, control);
  }
  Status copy_page(const KvView& cache, int64_t from, int64_t to) override {
    return device_->copy_page(cache, from, to);
  }
  Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) override {
    return device_->read_page(cache, layer, page, out);
  }
  Status write_page(const KvView& cache, int64_t layer, int64_t page,
                    const float* values) override {
    return device_->write_page(cache, layer, page, values);
  }
  bool uses_mapped_weights() const override { return false; }
  bool uses_callers_memory() const override { return false; }
  bool runs_at_once() const override { return false; }
  Status begin_step() override { return device_->begin_step(); }
  Status upload(const std::vector<Transfer>& pieces) override { return device_->upload(pieces); }
  Status launched() override { return device_->launched(); }
  Status download(const std::vector<Transfer>& pieces) override {
    return device_->download(pieces);
  }
  Status end_step() override { return device_->end_step(); }
  int64_t watched_gap() const override { return device_->watched_gap(); }
  void watch(const OpMemory& memory) override { device_->watch(memory); }
  Status record(const std::function<Status()>& enqueue,
                std::unique_ptr<Recording>* recording) override {
    return device_->record(enqueue, recording);
  }
  Status replay(const Recording& recording) override { return device_->replay(recording); }

 private:
  std::shared_ptr<Device> device_ = opened();
  Kernels kernels_;
};

// Of one step; a second one would find what the first left. Empty after a failure.
inline std::vector<float> logits_with(void (*norm)(const RmsNormArgs&, Queue&)) {
  const TemporaryFile file(SmallModel::floats());
  const auto program = compiled(std::make_shared<OtherNorm>(norm), SmallModel(file.path()).spec);
  SmallStep step(*program, 16);  // every buffer of rows fills its place
  const Status status = program->run(step.step);
  if (status.ok()) return step.results.at("logits");
  std::printf("%s\n", status.message.c_str());
  return {};
}

template <MemoryBug bug>
int run_norm() {
  if (simt::emu::options.order != simt::emu::Order::kForward) return 0;  // no order matters
  static const std::vector<float> right = logits_with(norm<MemoryBug::kNone>);
  const std::vector<float> got = logits_with(norm<bug>);
  if (got.empty()) return kRefused;
  for (const float logit : right) {
    if (std::isnan(logit)) return kWrongResult;
  }
  return std::memcmp(got.data(), right.data(), 4 * right.size()) == 0 ? 0 : kWrongResult;
}

}  // namespace moepp::simt_test
