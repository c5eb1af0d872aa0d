// A CPU device behind another class: tests override what they watch.
#pragma once

#include <memory>

#include "device.h"
#include "test.h"

namespace moepp::test {

class WrappedCpu : public Device {
 public:
  WrappedCpu() { EXPECT(open_cpu_device(2, "", &cpu_).ok()); }

  DeviceInfo info() const override { return cpu_->info(); }
  const Kernels& kernels() const override { return cpu_->kernels(); }
  Queue& queue() override { return cpu_->queue(); }
  void* allocate(int64_t bytes) override { return cpu_->allocate(bytes); }
  void release(void* data, int64_t bytes) override { cpu_->release(data, bytes); }
  int64_t weight_bytes(const WeightSpec& spec, Layout layout) const override {
    return cpu_->weight_bytes(spec, layout);
  }
  Status load_weight(const WeightSpec& spec, Layout layout, void* data,
                     const Control& control) override {
    return cpu_->load_weight(spec, layout, data, control);
  }
  Status copy_page(const KvView& cache, int64_t from, int64_t to) override {
    return cpu_->copy_page(cache, from, to);
  }
  Status read_page(const KvView& cache, int64_t layer, int64_t page, float* out) override {
    return cpu_->read_page(cache, layer, page, out);
  }
  Status write_page(const KvView& cache, int64_t layer, int64_t page,
                    const float* values) override {
    return cpu_->write_page(cache, layer, page, values);
  }

 protected:
  std::shared_ptr<Device> cpu_;
};

}  // namespace moepp::test
