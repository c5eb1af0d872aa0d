// Shared by the tests of ops here: the cases and the references are those of the CPU's tests.
#pragma once

#include "cuda/cuda_queue.h"
#include "cuda/kernels/kernels.h"
#include "device_test.h"
#include "reference.h"

namespace moepp::simt_test {

constexpr int kMultiprocessors = 4;

// Runs the op to its end; an error is a failure.
template <class Args>
void run_op(void (*op)(const Args&, Queue&), const Args& args, cuda::CudaQueue& queue,
            const std::string& label) {
  op(args, queue);
  const simt::Error error = queue.take_error();
  EXPECT_MESSAGE(error == simt::kSuccess, label + ": " + simt::error_text(error));
#if !SIMT_EMULATED
  const simt::Error end = cudaDeviceSynchronize();
  EXPECT_MESSAGE(end == simt::kSuccess, label + ": " + simt::error_text(end));
#endif
}
template <class Args>
void run_op(void (*op)(const Args&, Queue&), const Args& args, const std::string& label) {
  cuda::CudaQueue queue(nullptr, kMultiprocessors, newest_capability());
  run_op(op, args, queue, label);
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

// The same tensor, but only its rows [row, row + count).
inline Tensor rows_of(Tensor all, int64_t row, int64_t count) {
  if (all.shape[0] != 0) {
    all.data = static_cast<char*>(all.data) +
               row * (all.elements() / all.shape[0]) * dtype_size(all.dtype);
  }
  all.shape[0] = count;
  return all;
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
