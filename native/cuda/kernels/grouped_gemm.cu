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
  g.k = static_cast<int>(weight.shape[2]);
  g.pitch = static_cast<int>(weight_pitch(weight.dtype, weight.shape[2]));
  g.weight_rows = static_cast<int>(weight_rows(weight.layout, weight.shape[1]));
  g.columns = static_cast<int>(swiglu ? weight.shape[1] / 2 : weight.shape[1]);
  g.scale = args.input_scale;
  g.activation = args.activation;
  g.dtype = weight.dtype;
  g.x_dtype = args.x->dtype;
  return g;
}

namespace {

// Chooses between two kernels. One streams the weights past f32 activations, 8 rows of a group at a
// time (decode.cu). The other takes tiles of 32 rows through tensor cores. The numbers are computed
// for an H100 of 132 multiprocessors at 1.75 GHz and 3.0 TB/s (13 bytes a clock and
// multiprocessor). Instructions are counted in the loops of the machine code of sm_90a. None of it
// is measured.
//
// f32 and bf16. Streaming 8 rows costs 16 KB of x from L1 (128 bytes a clock) and 830 instructions
// a lane, 512 of them FMAs, for 4 KB of bf16 weights. That is some 210 clocks. So the chip could
// stream 4.6 TB/s, more than memory gives: either kernel waits for the weights. A group with more
// than 8 rows reads its weights again, then from L2 (about 5.5 TB/s).
//   experts  With a mean of 4 rows or less, one group of 50 has more than 8 (Poisson). That is up
//            to 32 tokens with 16 experts and top-2. From there on, tensor cores: 32 rows of a tile
//            are 64 operations per weight, 96 TFLOP/s of some 600.
//   dense    9 to 32 tokens are 2 to 4 passes, 1.5 to 2.6 times one. A tile of 32 columns keeps 14
//            KB of weights on their way. 3.0 TB/s times 0.7 us take 2.1 MB, 150 tiles. Below half a
//            tile per multiprocessor, tiles would take longer (o, 1536 columns: 48 tiles and 0.7
//            MB).
// So swapping the operands (weights as the rows of the product) would gain nothing. It makes the
// padding smaller, 8 rows instead of 16, of products that wait for the weights.
//
// int8 and int4. 4 KB hold two and four times the weights. They must be widened, and sums of four
// products scaled:
//   streaming 4 KB   8 rows                             4 rows            2 rows
//   int8             1,900 instructions, 2.0 TB/s       1,130, 3.3 TB/s   750, 5.0 TB/s
//   int4             4,060, 0.9 TB/s                    2,560, 1.5 TB/s   1,830, 2.1 TB/s
// A tile of 32 x 128 widens each weight once: 960 instructions for 16 KB of int8 (3.9 TB/s), 900
// for 8 KB of int4 (2.1 TB/s). So streaming keeps up with memory or with tiles for up to 4 rows of
// int8 and 2 of int4. For 8 rows tiles are 1.5 and 2.3 times as fast, if there are enough. A block
// has at most 96 k of int8 or 128 of int4 on their way. It takes 0.7 us for them whatever its
// columns, so some 7 ns a k. Streaming takes 0.5 ps a weight and pass: 7 ns for 13,000 columns, 100
// tiles. So tiles serve where they give every multiprocessor one, for as many rows as above
// (gate_up, down from 6 tokens on, the output head). Else streaming does. GDDR memory (sm_86,
// sm_89, sm_120) gives 3 to 7 bytes a clock and multiprocessor, and either kernel waits for it.
bool streams_weights(const Gemm& g, const CudaQueue& queue) {
  constexpr int kPass = 8, kMeanRows = 4, kMostDenseRows = 32;
  const bool dense = g.groups == 1,
             quantised = is_quantised(g.dtype) && queue.compiled().capability >= 80;
  // A token's picks are of different experts, so that no group has more rows than there are tokens.
  const int tokens = g.rows / g.picks_per_row, passes = dense ? (tokens + kPass - 1) / kPass : 1;
  if (tokens <= (!quantised ? kPass : g.dtype == DType::kI8 ? 4 : 2)) return true;
  if (tokens > kPass && g.rows > (dense ? kMostDenseRows : kMeanRows * g.groups)) return false;
  if (quantised) return passes * most_tiles(g, 32, 128) < queue.multiprocessors();
  return !dense || 2 * most_tiles(g, 32, 32) < queue.multiprocessors();
}

}  // namespace

GemmKernel choose_gemm(const Gemm& g, const CudaQueue& queue) {
  constexpr int kNarrowRows = 32;
  if (streams_weights(g, queue)) return GemmKernel::kDecode;
  if (g.dtype == DType::kF32 || queue.compiled().capability < 80) return GemmKernel::kF32;
  // On average; and wide tiles must give every multiprocessor one.
  const int64_t wide_tiles = static_cast<int64_t>(g.rows / 128) * (g.weight_rows / 128);
  const bool wide = g.rows / g.groups > kNarrowRows && wide_tiles >= queue.multiprocessors();
  if (!wide || g.activation == Activation::kTanh) return GemmKernel::kSm80Narrow;
  // wgmma reads weights from shared memory as they are: int8 and int4 ones take mma.sync on Hopper,
  // too.
  return queue.uses_wgmma() && !is_quantised(g.dtype) ? GemmKernel::kSm90 : GemmKernel::kSm80;
}

bool reads_bf16(const Gemm& g, const CudaQueue& queue) {
  const GemmKernel kernel = choose_gemm(g, queue);
  return kernel != GemmKernel::kDecode && kernel != GemmKernel::kF32 && g.k % 8 == 0;
}

static void run_mma(const Gemm& gemm, bool narrow, CudaQueue& queue) {
  if (is_quantised(gemm.dtype)) return gemm_sm80_quantised(gemm, narrow, queue);
  gemm_sm80(gemm, narrow, queue);
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
    case GemmKernel::kSm80Narrow:
      return run_mma(gemm, true, queue);
    case GemmKernel::kSm80:
      return run_mma(gemm, false, queue);
    case GemmKernel::kSm90:
      return gemm_sm90(gemm, queue);
  }
}

void grouped_gemm(const GroupedGemmArgs& args, Queue& queue) {
  CudaQueue& stream = CudaQueue::from(queue);
  const Gemm gemm = gemm_of(args);
  run_gemm(gemm, choose_gemm(gemm, stream), stream);
}

}  // namespace moepp::cuda
