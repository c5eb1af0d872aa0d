// Chooses the kernel of a matrix product (grouped_gemm/gemm.h).
#include "cuda/kernels/grouped_gemm/tiles.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

Gemm gemm_of(const GroupedGemmArgs& args) {
  const Tensor& weight = *args.weight;
  const bool swiglu = args.activation == Activation::kSwiglu;
  Gemm g = {};
  g.x = args.x->data;
  g.token_order = args.token_order != nullptr ? args.token_order->i32() : nullptr;
  g.offsets = args.expert_offsets->i32();
  g.weight = weight.data;
  g.out = output_of(*args.out);
  g.picks_per_row = static_cast<int>(args.out->shape[1]);
  g.groups = static_cast<int>(weight.shape[0]);
  g.rows = static_cast<int>(args.out->shape[0] * args.out->shape[1]);
  g.row_step = 1;
  g.k = g.x_pitch = static_cast<int>(weight.shape[2]);
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[2]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[1]));
  g.columns = static_cast<int>(swiglu ? weight.shape[1] / 2 : weight.shape[1]);
  g.scale = args.input_scale;
  g.activation = args.activation;
  g.dtype = weight.dtype;
  g.x_dtype = args.x->dtype;
  return g;
}

static int most_streamed_tokens(DType dtype) {
  return !is_blocked(dtype) ? 8 : dtype == DType::kI4 ? 2 : 4;
}

// The choice is made by counting; nothing is measured. An H100 reads 3.0 TB/s, which is 1 KB of
// weights in 79 clocks of each multiprocessor. It issues 316 instructions meanwhile. The loops in
// the machine code of sm_90a take, per KB:
//
//                     1 row   2 rows  4 rows  8 rows  16 rows  32 rows  64 rows
//   decode.cu   bf16     53       75     120     207
//               int8    139      187     283     475
//               int4    357      457     640   1,015
//   few_rows.cu bf16              55      55      55       68       89      133
//               int8             189     189     189      217      273
//               int4             304     304     304      355      463
//
// few_rows.cu takes 265 for 32 rows of float8, decode.cu 345 for 4: about what int8 takes.
//
// Up to 8 tokens of bf16, 4 of int8 and float8, 2 of int4 stream past f32 activations, which lose
// nothing. A step of guesses then has the bits of one token's (draftingTokens in
// lib/load/device-traits.ts). 8 rows of bf16 could issue 4.6 TB/s. But registers leave them 8
// warps, whose loads and products take turns: 32 KB in 2,000 to 2,600 clocks, 2.9 to 3.7 TB/s.
// few_rows.cu has 40 KB on their way in a block, whatever its products do. 3.0 TB/s times 0.7 us
// need 16 KB a multiprocessor.
//
// Before sm_80, and with f32 weights, decode.cu takes 8 rows of a group at once. With a mean of 4,
// one group of 50 has more (Poisson). 9 to 32 rows of a dense weight are two to four passes, faster
// than tiles where half of the multiprocessors would have none.
//
// few_rows.cu reads a group's weights for each 64 rows, or 32. With a mean of 48, one group of 100
// has more. From there on tiles of 128 rows pay, if every multiprocessor has one. From a mean of
// 128 on they pay anyway. The 12 columns of tiles of o take 14 us for any number of rows, as long
// as they are fewer than the multiprocessors. Its blocks of few rows take 7 us for 128 rows, and as
// much for each 128 more.
GemmKernel choose_gemm(const Gemm& g, const CudaQueue& queue) {
  constexpr int kFewRows = 48, kTile = 128, kPass = 8, kMeanRows = 4, kMostDenseRows = 32;
  // A token's picks are of different experts, so that no group has more rows than there are tokens.
  const int tokens = g.rows / g.picks_per_row, mean = g.rows / g.groups;
  const bool has_mma = g.dtype != DType::kF32 && queue.compiled().capability >= 80;
  if (!has_mma) {
    const bool few = g.groups > 1 ? g.rows <= kMeanRows * g.groups
                                  : g.rows <= kMostDenseRows &&
                                        2 * most_tiles(g, 32, 32) < queue.multiprocessors();
    return tokens <= kPass || few ? GemmKernel::kDecode : GemmKernel::kF32;
  }
  if (tokens <= most_streamed_tokens(g.dtype)) return GemmKernel::kDecode;
  const int64_t tiles = static_cast<int64_t>(g.rows / kTile) * (g.weight_rows / kTile);
  const bool wide = mean >= kTile || (mean > kFewRows && tiles >= queue.multiprocessors());
  if (!wide || g.activation == Activation::kTanh) return GemmKernel::kFewRows;
  // wgmma reads weights from shared memory as they are: int8 and int4 ones take mma.sync on Hopper,
  // too.
  return queue.uses_wgmma() && !is_quantised(g.dtype) ? GemmKernel::kSm90 : GemmKernel::kSm80;
}

bool reads_bf16(const Gemm& g, const CudaQueue& queue) {
  const GemmKernel kernel = choose_gemm(g, queue);
  return kernel != GemmKernel::kDecode && kernel != GemmKernel::kF32 && g.k % 8 == 0;
}

bool multiplies_float8(const Gemm& g, GemmKernel kernel, const CudaQueue& queue) {
  if (g.dtype != DType::kF8) return false;
  if (kernel == GemmKernel::kSm90) return rows_at_once(g, queue) > 0;
  return kernel == GemmKernel::kSm80 && fits_sm89_float8(g, queue);
}

static void run_sm80(const Gemm& gemm, CudaQueue& queue) {
  if (multiplies_float8(gemm, GemmKernel::kSm80, queue)) return gemm_sm89_float8(gemm, queue);
  is_blocked(gemm.dtype) ? gemm_sm80_quantised(gemm, queue) : gemm_sm80(gemm, queue);
}

std::array<std::atomic<int64_t>, kGemmKernels>& gemm_launches() {
  static std::array<std::atomic<int64_t>, kGemmKernels> launches;
  return launches;
}

void run_gemm(const Gemm& gemm, GemmKernel kernel, CudaQueue& queue) {
  if (gemm.rows == 0 || gemm.columns == 0) return;
  if (kernel == GemmKernel::kSm90 && rows_at_once(gemm, queue) == 0) kernel = GemmKernel::kSm80;
  gemm_launches()[static_cast<size_t>(kernel)]++;
  switch (kernel) {
    case GemmKernel::kF32:
      return gemm_f32(gemm, queue);
    case GemmKernel::kDecode:
      return gemm_decode(gemm, queue);
    case GemmKernel::kFewRows:
      return gemm_few_rows(gemm, queue);
    case GemmKernel::kSm80:
      return run_sm80(gemm, queue);
    case GemmKernel::kSm90:
      return gemm.dtype == DType::kF8 ? gemm_sm90_float8(gemm, queue) : gemm_sm90(gemm, queue);
  }
}

void grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
