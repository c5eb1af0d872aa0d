// The operands of linear and grouped_gemm for the CUDA kernels, and the same for the reference,
// which knows the CPU's panels.
#pragma once

#include <random>

#include "cuda/kernels/grouped_gemm/gemm.h"
#include "device_test.h"
#include "pack_for_gpu.h"

namespace moepp::simt_test {

inline const char* kernel_name(cuda::GemmKernel kernel) {
  constexpr const char* names[] = {"f32", "decode", "sm80 narrow", "sm80", "sm90"};
  return names[static_cast<int>(kernel)];
}
// True if a kernel takes activations as bf16.
inline bool rounds_activations(cuda::GemmKernel kernel) {
  return kernel == cuda::GemmKernel::kSm80Narrow || kernel == cuda::GemmKernel::kSm80 ||
         kernel == cuda::GemmKernel::kSm90;
}
inline std::vector<cuda::GemmKernel> kernels_for(DType dtype) {
  using cuda::GemmKernel;
  if (dtype == DType::kF32) return {GemmKernel::kF32, GemmKernel::kDecode};
  if (is_quantised(dtype))
    return {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kSm80Narrow, GemmKernel::kSm80};
  return {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kSm80Narrow, GemmKernel::kSm80,
          GemmKernel::kSm90};
}
constexpr DType kWeightTypes[] = {DType::kF32, DType::kBf16, DType::kI8, DType::kI4};
// The chip that a kernel is chosen for.
inline cuda::CudaQueue queue_for(cuda::GemmKernel kernel, int multiprocessors) {
  const bool hopper = !SIMT_EMULATED || kernel == cuda::GemmKernel::kSm90;
  return cuda::CudaQueue(nullptr, multiprocessors, hopper ? newest_capability() : 86);
}
inline bool runs_on(cuda::GemmKernel kernel, const cuda::CudaQueue& queue) {
  if (kernel == cuda::GemmKernel::kSm90) return queue.compiled().wgmma;
  return !rounds_activations(kernel) || queue.compiled().capability >= 80;
}

inline void finish(cuda::CudaQueue& queue, const std::string& label) {
  const simt::Error error = queue.take_error();
  EXPECT_MESSAGE(error == simt::kSuccess, label + simt::error_text(error));
#if !SIMT_EMULATED
  EXPECT_MESSAGE(cudaDeviceSynchronize() == cudaSuccess, label + "failed");
#endif
}

// A weight in both layouts.
struct GemmWeight {
  std::vector<float> panels;
  Shared<unsigned char> rows;
  Tensor for_cpu, for_cuda;

  GemmWeight(DType dtype, Layout layout, int64_t groups, int64_t outputs, int64_t inputs)
      : panels(static_cast<size_t>(groups * cpu::panel_count(layout, outputs) *
                                   cpu::panel_bytes(dtype, inputs) / 4)),
        rows(static_cast<size_t>(cuda::weight_bytes(dtype, layout, groups, outputs, inputs)),
             0xff) {
    fill_panels(panels.data(), dtype, layout, groups, outputs, inputs, 4, 1.0f);
    for_cpu = tensor(panels.data(), dtype, {groups, outputs, inputs}, layout);
    for_cuda = tensor(rows.data(), dtype, {groups, outputs, inputs}, layout);
    const int64_t group_bytes = cuda::weight_bytes(dtype, layout, 1, outputs, inputs);
    for (int64_t n = 0; n < groups; n++) pack_for_gpu(for_cpu, n, rows.data() + n * group_bytes);
  }
};

inline std::vector<float> rounded(const float* x, size_t n) {
  std::vector<float> result(n);
  for (size_t i = 0; i < n; i++) result[i] = bf16_to_f32(f32_to_bf16(x[i]));
  return result;
}

}  // namespace moepp::simt_test
