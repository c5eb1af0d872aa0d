// Shared by the tests of ops here: the cases and the references are those of the CPU's tests.
#pragma once

#include <deque>

#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "device_test.h"
#include "reference.h"

namespace moepp::simt_test {

constexpr int kMultiprocessors = 4;

// For visit(): makes an op's arguments those of the device's copies.
class DeviceArgs {
 public:
  void in(const char*, const Tensor*& t, const char*, FieldType) { t = twin(t); }
  void optional_in(const char*, const Tensor*& t, const char*, FieldType) { t = twin(t); }
  void weight(const char*, const Tensor*& t, const char*, Layout) { t = twin(t); }
  void optional_weight(const char*, const Tensor*& t, const char*, Layout) { t = twin(t); }
  void table(const char*, const Tensor*& t, const char*) { t = twin(t); }
  void out(const char*, Tensor*& t, const char*, FieldType) { t = twin(t); }
  void optional_out(const char*, Tensor*& t, const char*, FieldType) { t = twin(t); }
  void cache(const char*, const KvView*& cache) {
    caches_.push_back(*cache);
    caches_.back().data = on_device(cache->data);
    cache = &caches_.back();
  }
  template <class T>
  void attribute(const char*, T&) {}
  void may_round(bool&) {}

 private:
  Tensor* twin(const Tensor* tensor) {
    if (tensor == nullptr) return nullptr;
    tensors_.push_back(*tensor);
    tensors_.back().data = on_device(tensor->data);
    return &tensors_.back();
  }
  std::deque<Tensor> tensors_;
  std::deque<KvView> caches_;
};

// Runs the op to its end; an error is a failure.
template <class Args, class Op>
void run_with(Args args, cuda::CudaQueue& queue, const std::string& label, const Op& op) {
  DeviceArgs there;
  args.visit(there);
  const simt::Error error = run_on_device([&] {
    op(args, queue);
    return queue.take_error();
  });
  EXPECT_MESSAGE(error == simt::kSuccess, label + ": " + simt::error_text(error));
}
template <class Args>
void run_op(void (*op)(const Args&, Queue&), const Args& args, cuda::CudaQueue& queue,
            const std::string& label) {
  run_with(args, queue, label, op);
}
template <class Args>
void run_op(void (*op)(const Args&, Queue&), const Args& args, const std::string& label) {
  cuda::CudaQueue queue(nullptr, kMultiprocessors, newest_capability());
  run_op(op, args, queue, label);
}

// The content of memory that an op must not write; exact in bf16.
constexpr float kUntouched = -123.0f;

// An op that gave `args.out` as f32 gives it as bf16, too: the same values, rounded.
template <class Args, class Run>
void expect_rounded_output(Args args, const std::string& label, const Run& run) {
  Tensor out = *args.out;
  const float* wide = out.f32();
  Shared<simt::bf16> narrow(static_cast<size_t>(out.elements()), simt::to_bf16(kUntouched));
  out.data = narrow.data(), out.dtype = DType::kBf16;
  args.out = &out;
  run(args);
  for (size_t i = 0; i < narrow.size(); i++) {
    if (simt::bits_of(narrow[i]) == simt::bits_of(simt::to_bf16(wide[i]))) continue;
    return test::fail(__FILE__, __LINE__,
                      label + ": bf16 output [" + std::to_string(i) + "] is " +
                          std::to_string(simt::to_float(narrow[i])) + ", the f32 one " +
                          std::to_string(wide[i]));
  }
}

inline void expect_no_difference(const std::string& label, const std::string& text) {
  EXPECT_MESSAGE(text.empty(), label + ": " + text);
}

inline Shared<float> filled(int64_t n, uint32_t seed, float scale = 1.0f) {
  Shared<float> values(static_cast<size_t>(n));
  fill(values.data(), n, seed, scale);
  return values;
}

// n floats that are not written yet.
inline Shared<float> unwritten(int64_t n) {
  return Shared<float>(static_cast<size_t>(n), NAN);
}

inline Tensor whole(Shared<float>& values, std::initializer_list<int64_t> shape) {
  return tensor(values.data(), DType::kF32, shape);
}
inline Tensor whole(Shared<int32_t>& values, std::initializer_list<int64_t> shape) {
  return tensor(values.data(), DType::kI32, shape);
}

template <class T>
bool same_rows(const Shared<T>& a, const Shared<T>& b) {
  return a.size() == b.size() && same_bits(a.data(), b.data(), a.size() * sizeof(T));
}

template <class T>
Shared<T> copy_of(const Shared<T>& values) {
  Shared<T> copy(values.size());
  for (size_t i = 0; i < values.size(); i++) copy[i] = values[i];
  return copy;
}

}  // namespace moepp::simt_test
