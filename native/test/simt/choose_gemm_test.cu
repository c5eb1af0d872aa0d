// The choice among the kernels of products: by types, shapes and chip.
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "test.h"

namespace moepp::simt_test {

using cuda::GemmKernel;

MOEPP_TEST(simt_choose_gemm) {
  // MoE++ 7B's gate_up_proj: from decode to prefill, on several chips.
  cuda::Gemm g = {};
  g.picks_per_row = 2, g.groups = 16, g.k = 1536, g.weight_rows = 8192, g.dtype = DType::kBf16;
  const cuda::CudaQueue ampere(nullptr, 108, 80), hopper(nullptr, 132, 90), turing(nullptr, 40, 75);
  const auto chosen = [&](int tokens, const cuda::CudaQueue& queue) {
    g.rows = 2 * tokens;
    return cuda::choose_gemm(g, queue);
  };
  EXPECT(chosen(8, ampere) == GemmKernel::kDecode && chosen(9, ampere) == GemmKernel::kFewRows);
  EXPECT(chosen(32, turing) == GemmKernel::kDecode && chosen(33, turing) == GemmKernel::kF32);
  // 48 rows per expert
  EXPECT(chosen(391, ampere) == GemmKernel::kFewRows &&
         chosen(391, hopper) == GemmKernel::kFewRows);
  EXPECT(chosen(392, ampere) == GemmKernel::kSm80 && chosen(392, hopper) == GemmKernel::kSm90);
  EXPECT(chosen(1, turing) == GemmKernel::kDecode && chosen(512, turing) == GemmKernel::kF32);
  g.activation = Activation::kTanh;
  EXPECT(chosen(512, hopper) == GemmKernel::kFewRows);
  g.activation = Activation::kNone;
  for (DType dtype : {DType::kI8, DType::kI4, DType::kF8}) {
    g.dtype = dtype;
    const int most = dtype == DType::kI4 ? 2 : 4;
    EXPECT(chosen(most, hopper) == GemmKernel::kDecode &&
           chosen(most + 1, hopper) == GemmKernel::kFewRows);
    EXPECT(chosen(32, turing) == GemmKernel::kDecode);
    EXPECT(chosen(512, turing) == GemmKernel::kF32 && chosen(512, ampere) == GemmKernel::kSm80);
    EXPECT(chosen(391, hopper) == GemmKernel::kFewRows &&
           chosen(392, hopper) == (dtype == DType::kF8 ? GemmKernel::kSm90 : GemmKernel::kSm80));
  }
  g.dtype = DType::kBf16;
  // Its o_proj: 12 tiles of 128 columns for each 128 rows. A large one gives every multiprocessor
  // one.
  g.picks_per_row = g.groups = 1, g.weight_rows = 1536;
  const auto dense = [&](int rows, const cuda::CudaQueue& queue) {
    g.rows = rows;
    return cuda::choose_gemm(g, queue);
  };
  EXPECT(dense(8, hopper) == GemmKernel::kDecode && dense(9, hopper) == GemmKernel::kFewRows);
  EXPECT(dense(127, hopper) == GemmKernel::kFewRows && dense(128, hopper) == GemmKernel::kSm90);
  EXPECT(dense(8, turing) == GemmKernel::kDecode && dense(9, turing) == GemmKernel::kF32);
  g.dtype = DType::kF32;  // 48 tiles of 32 columns
  EXPECT(dense(32, hopper) == GemmKernel::kDecode && dense(33, hopper) == GemmKernel::kF32);
  EXPECT(dense(8, ampere) == GemmKernel::kDecode && dense(512, ampere) == GemmKernel::kF32);
}

// Tiles of 128 rows do, on chips that multiply e4m3 in hardware, if the workspace has room.
MOEPP_TEST(simt_products_that_quantise_x) {
  cuda::Gemm g = {};
  g.picks_per_row = 2, g.groups = 4, g.rows = 1024, g.k = g.pitch = 1536, g.weight_rows = 8192;
  const auto quantises = [&](int chip, GemmKernel kernel, DType dtype, int64_t rows) {
    g.dtype = dtype;
    cuda::CudaQueue queue(nullptr, 100, chip);
    char workspace;
    queue.set_workspace(&workspace, rows * 1536 / 128 * (128 + 4));
    return cuda::multiplies_float8(g, kernel, queue);
  };
  for (const int chip : {89, 120}) {
    EXPECT(quantises(chip, GemmKernel::kSm80, DType::kF8, 1024));
    EXPECT(!quantises(chip, GemmKernel::kSm80, DType::kF8, 1023));
    EXPECT(!quantises(chip, GemmKernel::kFewRows, DType::kF8, 1024));
    EXPECT(!quantises(chip, GemmKernel::kSm80, DType::kI8, 1024));
  }
  for (const int chip : {80, 86, 90, 100})
    EXPECT(!quantises(chip, GemmKernel::kSm80, DType::kF8, 1024));
  // part by part
  EXPECT(quantises(90, GemmKernel::kSm90, DType::kF8, 128));
  EXPECT(!quantises(90, GemmKernel::kSm90, DType::kF8, 127));
  EXPECT(!quantises(90, GemmKernel::kSm90, DType::kBf16, 1024));
}

// A kernel that rounds x takes x as bf16, in rows of whole units.
MOEPP_TEST(simt_products_that_read_bf16) {
  cuda::Gemm g = {};
  g.picks_per_row = 2, g.groups = 16, g.weight_rows = 8192;
  const cuda::CudaQueue ampere(nullptr, 108, 80), hopper(nullptr, 132, 90), turing(nullptr, 40, 75);
  const auto reads = [&](DType dtype, int tokens, int k, const cuda::CudaQueue& queue) {
    g.dtype = dtype, g.rows = 2 * tokens, g.k = k;
    return cuda::reads_bf16(g, queue);
  };
  for (const DType dtype : {DType::kBf16, DType::kI8, DType::kI4, DType::kF8}) {
    for (const int tokens : {9, 64, 512}) {
      EXPECT(reads(dtype, tokens, 1536, ampere) && reads(dtype, tokens, 1536, hopper));
      EXPECT(!reads(dtype, tokens, 1540, hopper) && !reads(dtype, tokens, 1536, turing));
    }
    EXPECT(!reads(dtype, 1, 1536, hopper));
  }
  EXPECT(!reads(DType::kF32, 512, 1536, hopper));
}

}  // namespace moepp::simt_test
