// The bytes that Hopper's products ask L2 for: those decide its speed, and can be counted.
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/weight_layout.h"
#include "device_test.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

constexpr int kInputs = 256, kOutputs = 512;

// Bytes by TMA of a product of two groups with so many rows, 512 stored rows of 256 inputs.
static int64_t bytes_of(DType dtype, int rows, int rows_of_second) {
  const int all = rows + rows_of_second;
  Shared<simt::bf16> x(static_cast<size_t>(all * kInputs), simt::to_bf16(1.0f));
  Shared<float> out(static_cast<size_t>(all * kOutputs));
  Shared<int32_t> offsets(3);
  offsets[1] = rows, offsets[2] = all;
  const Shared<unsigned char> weight(
      static_cast<size_t>(cuda::weight_bytes(dtype, Layout::kMatrix, 2, kOutputs, kInputs)));
  const Shared<unsigned char> room(static_cast<size_t>(all * (kInputs + kInputs / 128 * 4)));
  cuda::Gemm g = {};
  g.x = x.device(), g.offsets = offsets.device();
  g.weight = weight.device(), g.out = {out.device(), false};
  g.picks_per_row = g.row_step = 1, g.groups = 2, g.rows = all;
  g.k = g.x_pitch = g.pitch = kInputs;
  g.weight_rows = g.columns = kOutputs;
  g.scale = 1.0f, g.dtype = dtype, g.x_dtype = DType::kBf16;
  const int64_t before = simt::emu::counts().tma_bytes;
  // So few multiprocessors that tiles of 256 columns cost less than those of 192.
  cuda::CudaQueue queue(nullptr, 2, 90);
  queue.set_workspace(room.device(), static_cast<int64_t>(room.size()));
  const simt::Error error = run_on_device([&] {
    cuda::run_gemm(g, cuda::GemmKernel::kSm90, queue);
    return queue.take_error();
  });
  EXPECT_MESSAGE(error == simt::kSuccess, simt::error_text(error));
  return simt::emu::counts().tma_bytes - before;
}

static void expect_operations_per_byte(DType dtype, double expected, int rows, int rows_of_second) {
  const double operations = 2.0 * (rows + rows_of_second) * kInputs * kOutputs,
               found = operations / static_cast<double>(bytes_of(dtype, rows, rows_of_second));
  EXPECT_MESSAGE(
      std::abs(found - expected) < 0.01,
      std::to_string(found) + " operations a byte, expected " + std::to_string(expected));
}

MOEPP_TEST(simt_sm90_operations_per_byte) {
  // 128 rows x 256 of a tile: 48 KB for each 64 of k. With 64 rows 40 KB.
  const DType bf16 = DType::kBf16;
  expect_operations_per_byte(bf16, 85.33, 128, 128);
  expect_operations_per_byte(bf16, 64.00, 192, 64);
  // More than 128 rows a group: two blocks share the weights, each has 128 rows or 64.
  expect_operations_per_byte(bf16, 128.0, 256, 256);
  expect_operations_per_byte(bf16, 109.71, 192, 192);
}

MOEPP_TEST(simt_sm90_float8_operations_per_byte) {
  // The same bytes for each 128 of k, and 512 of scales of x. 1024 of the weights' scales come by
  // another way.
  const DType float8 = DType::kF8;
  expect_operations_per_byte(float8, 168.91, 128, 128);
  expect_operations_per_byte(float8, 126.52, 192, 64);
  expect_operations_per_byte(float8, 252.06, 256, 256);
  expect_operations_per_byte(float8, 215.57, 192, 192);
}

}  // namespace moepp::simt_test
#endif
