// The operands of linear and grouped_gemm for the CUDA kernels, and the same for the reference,
// which knows the CPU's panels.
#pragma once

#include <random>

#include "cuda/kernels/grouped_gemm/gemm.h"
#include "kernel_test.h"
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
constexpr DType kWeightTypes[] = {DType::kF32, DType::kBf16, DType::kI8, DType::kI4};

// The kernels for such weights.
inline std::vector<cuda::GemmKernel> kernels_for(DType dtype) {
  using cuda::GemmKernel;
  if (dtype == DType::kF32) return {GemmKernel::kF32, GemmKernel::kDecode};
  if (is_quantised(dtype))
    return {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kSm80Narrow, GemmKernel::kSm80};
  return {GemmKernel::kF32, GemmKernel::kDecode, GemmKernel::kSm80Narrow, GemmKernel::kSm80,
          GemmKernel::kSm90};
}
// The capabilities of chips for which the kernel is another one (sm80.cu); of a card its own.
inline std::vector<int> chips_for(cuda::GemmKernel kernel, DType dtype) {
  if (is_one_card()) {
    const int chip = newest_capability();
    const bool able =
        kernel == cuda::GemmKernel::kSm90 ? has_wgmma() : !rounds_activations(kernel) || chip >= 80;
    return able ? std::vector<int>{chip} : std::vector<int>{};
  }
  if (kernel == cuda::GemmKernel::kSm90) return {90};
  if (kernel == cuda::GemmKernel::kSm80 && dtype == DType::kBf16) return {80, 86};
  return {86};
}

struct GemmRun {
  cuda::GemmKernel kernel;
  int chip;

  std::string name() const {
    return std::string(kernel_name(kernel)) + " of " + std::to_string(chip);
  }
};
inline std::vector<GemmRun> runs_for(DType dtype) {
  std::vector<GemmRun> runs;
  for (cuda::GemmKernel kernel : kernels_for(dtype)) {
    for (int chip : chips_for(kernel, dtype)) runs.push_back({kernel, chip});
  }
  return runs;
}

template <class Args>
void run_gemm(const Args& args, const GemmRun& run, int multiprocessors, const std::string& label) {
  cuda::CudaQueue queue(nullptr, multiprocessors, run.chip);
  run_with(args, queue, label, [&](const Args& there, cuda::CudaQueue& q) {
    cuda::run_gemm(cuda::gemm_of(there), run.kernel, q);
  });
}

// The product that gave `args.out` from f32 again. As bf16, its output is the same, rounded. With x
// as bf16, where the kernel takes it, no bit differs.
template <class Args>
void expect_same_in_bf16(Args args, const GemmRun& run, int multiprocessors,
                         const std::string& label) {
  expect_rounded_output(args, label,
                        [&](const Args& again) { run_gemm(again, run, multiprocessors, label); });
  Tensor x = *args.x, out = *args.out;
  if (!rounds_activations(run.kernel) || x.shape[x.rank - 1] % 8 != 0) return;
  Shared<simt::bf16> narrow(static_cast<size_t>(x.elements()));
  for (size_t i = 0; i < narrow.size(); i++) narrow[i] = simt::to_bf16(x.f32()[i]);
  Shared<float> again(static_cast<size_t>(out.elements()), kUntouched);
  x.data = narrow.data(), x.dtype = DType::kBf16;
  out.data = again.data();
  const float* first = args.out->f32();
  args.x = &x, args.out = &out;
  run_gemm(args, run, multiprocessors, label);
  EXPECT_MESSAGE(same_bits(again.data(), first, again.size() * 4),
                 label + "with x as bf16 the result differs");
}

// A weight in both layouts.
struct GemmWeight {
  std::vector<float> panels;
  Shared<unsigned char> rows;
  Tensor for_cpu, for_cuda;

  GemmWeight(DType dtype, Layout layout, int64_t groups, int64_t outputs, int64_t inputs)
      : panels(static_cast<size_t>(groups * panel_count(layout, outputs) *
                                   panel_bytes(dtype, inputs) / 4)),
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
