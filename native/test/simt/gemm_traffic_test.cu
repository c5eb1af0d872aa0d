// The bytes that Hopper's product asks L2 for: those decide its speed, and can be counted.
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/weight_layout.h"
#include "device_test.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

// Bytes by TMA of a product of two groups with so many rows, 512 stored rows of 192 inputs.
static int64_t bytes_of(int rows, int rows_of_second) {
  constexpr int kInputs = 192, kOutputs = 512;
  const int all = rows + rows_of_second;
  Shared<simt::bf16> x(static_cast<size_t>(all * kInputs), simt::to_bf16(1.0f));
  Shared<float> out(static_cast<size_t>(all * kOutputs));
  Shared<int32_t> offsets(3);
  offsets[1] = rows, offsets[2] = all;
  const Shared<unsigned char> weight(
      static_cast<size_t>(cuda::weight_bytes(DType::kBf16, Layout::kMatrix, 2, kOutputs, kInputs)));
  cuda::Gemm g = {};
  g.x = x.device(), g.offsets = offsets.device();
  g.weight = weight.device(), g.out = {out.device(), false};
  g.picks_per_row = 1, g.groups = 2, g.rows = all, g.k = g.pitch = kInputs;
  g.weight_rows = g.columns = kOutputs;
  g.scale = 1.0f, g.dtype = g.x_dtype = DType::kBf16;
  const int64_t before = simt::emu::counts().tma_bytes;
  // So few multiprocessors that tiles of 256 columns cost less than those of 192.
  cuda::CudaQueue queue(nullptr, 2, 90);
  const simt::Error error = run_on_device([&] {
    cuda::run_gemm(g, cuda::GemmKernel::kSm90, queue);
    return queue.take_error();
  });
  EXPECT_MESSAGE(error == simt::kSuccess, simt::error_text(error));
  return simt::emu::counts().tma_bytes - before;
}

static void expect_operations_per_byte(double expected, int rows, int rows_of_second) {
  const double operations = 2.0 * (rows + rows_of_second) * 192 * 512,
               found = operations / static_cast<double>(bytes_of(rows, rows_of_second));
  EXPECT_MESSAGE(
      std::abs(found - expected) < 0.01,
      std::to_string(found) + " operations a byte, expected " + std::to_string(expected));
}

MOEPP_TEST(simt_sm90_operations_per_byte) {
  // 128 rows x 256 of a tile: 48 KB for each 64 of k. With 64 rows 40 KB.
  expect_operations_per_byte(85.33, 128, 128);
  expect_operations_per_byte(64.00, 192, 64);
  // More than 128 rows a group: two blocks share the weights, each has 128 rows or 64.
  expect_operations_per_byte(128.0, 256, 256);
  expect_operations_per_byte(109.71, 192, 192);
}

}  // namespace moepp::simt_test
#endif
