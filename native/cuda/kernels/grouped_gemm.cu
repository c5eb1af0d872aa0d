// Chooses the kernel of a matrix product (grouped_gemm/gemm.h).
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/kernels/kernels.h"
#include "cuda/weight_layout.h"

namespace moepp::cuda {

Gemm gemm_of(const GroupedGemmArgs& args) {
  const Tensor& weight = *args.weight;
  const bool swiglu = args.activation == Activation::kSwiglu;
  Gemm g = {};
  g.x = args.x->f32();
  g.token_order = args.token_order != nullptr ? args.token_order->i32() : nullptr;
  g.offsets = args.expert_offsets->i32();
  g.weight = weight.data;
  g.out = args.out->f32();
  g.top_k = static_cast<int>(args.out->shape[1]);
  g.groups = static_cast<int>(weight.shape[0]);
  g.rows = static_cast<int>(args.out->shape[0] * args.out->shape[1]);
  g.k = static_cast<int>(weight.shape[2]);
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[2]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[1]));
  g.columns = static_cast<int>(swiglu ? weight.shape[1] / 2 : weight.shape[1]);
  g.scale = args.input_scale;
  g.activation = args.activation;
  g.dtype = weight.dtype;
  return g;
}

namespace {

// Whether to stream the weights past f32 activations, 8 rows of a group at a time (decode.cu), rather than take tiles of 32 rows
// through tensor cores. Both are bound by reading the weights; the numbers are computed for an H100 of 132 multiprocessors
// at 1.75 GHz and 3.0 TB/s, none is measured.
//
// Streaming 8 rows costs 16 KB of x from L1 (128 bytes a clock) and 512 FMAs per lane for 4 KB of weights: some 160 clocks, so
// the chip could stream 132 * 1.75 GHz * 25 bytes = 5.9 TB/s, twice what memory gives. A group with more than 8 rows reads its
// weights again, then from L2 (about 5.5 TB/s).
//   experts  A mean of 4 rows or less: by a Poisson distribution one group of 50 has more than 8. That is up to 32 tokens with 16
//            experts and top-2. From there on, tensor cores: 32 rows of a tile are 64 operations per weight, 96 TFLOP/s of some
//            600.
//   dense    9 to 32 tokens are 2 to 4 passes, 1.5 to 2.6 times one. A tile of 32 columns keeps 14 KB of weights on their way,
//   and
//            3.0 TB/s times 0.7 us take 2.1 MB, 150 tiles: below half a tile per multiprocessor, tiles would take longer (o, 1536
//            columns: 48 tiles and 0.7 MB).
// So swapping the operands (weights as the rows of the product) would gain nothing: it makes the padding smaller, 8 rows instead
// of 16, of products that wait for the weights.
bool streams_weights(const Gemm& g, const CudaQueue& queue) {
  constexpr int kPass = 8, kMeanRows = 4, kMostDenseRows = 32, kTileColumns = 32;
  // A token's picks are of different experts, so that no group has more rows than there are tokens.
  if (g.rows / g.top_k <= kPass) return true;
  if (g.groups > 1) return g.rows <= kMeanRows * g.groups;
  return g.rows <= kMostDenseRows && 2 * ((g.weight_rows + kTileColumns - 1) / kTileColumns) < queue.multiprocessors();
}

}  // namespace

GemmKernel choose_gemm(const Gemm& g, const CudaQueue& queue) {
  constexpr int kNarrowRows = 32;
  if (streams_weights(g, queue)) return GemmKernel::kDecode;
  if (g.dtype == DType::kF32 || queue.compute_capability() < 80) return GemmKernel::kF32;
  // On average; and wide tiles must give every multiprocessor one.
  const int64_t wide_tiles = static_cast<int64_t>(g.rows / 128) * (g.weight_rows / 128);
  const bool wide = g.rows / g.groups > kNarrowRows && wide_tiles >= queue.multiprocessors();
  if (!wide || g.activation == Activation::kTanh) return GemmKernel::kSm80Narrow;
  // wgmma reads weights from shared memory as they are: int8 and int4 ones take mma.sync on Hopper, too.
  return queue.compute_capability() == 90 && !is_quantised(g.dtype) ? GemmKernel::kSm90 : GemmKernel::kSm80;
}

static void run_mma(const Gemm& gemm, bool narrow, CudaQueue& queue) {
  if (is_quantised(gemm.dtype)) return gemm_sm80_quantised(gemm, narrow, queue);
  gemm_sm80(gemm, narrow, queue);
}

void run_gemm(const Gemm& gemm, GemmKernel kernel, CudaQueue& queue) {
  if (gemm.rows == 0 || gemm.columns == 0) return;
  switch (kernel) {
    case GemmKernel::kF32:
      return gemm_f32(gemm, queue);
    case GemmKernel::kDecode:
      return gemm_decode(gemm, queue);
    case GemmKernel::kSm80Narrow:
      return run_mma(gemm, true, queue);
    case GemmKernel::kSm80:
      return run_mma(gemm, false, queue);
    case GemmKernel::kSm90:
      return gemm.k % 4 == 0 ? gemm_sm90(gemm, queue) : gemm_sm80(gemm, false, queue);
  }
}

void grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
