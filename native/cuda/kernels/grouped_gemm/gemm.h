// One matrix product for linear, head_linear and grouped_gemm: the rows of each group times the
// group's weight. linear is one group. In the words of Gemm, below, every kernel here computes
//
//   for (n = 0; n < groups; n++)
//     for (r = offsets[n]; r < offsets[n + 1]; r++) {
//       row = token_order ? token_order[r] / picks_per_row : r;
//       for (c = 0; c < columns; c++) {
//         for (sum = 0, i = 0; i < k; i++) sum += x[row][i] * weight[n][c][i];
//         out[r][c] = activation(scale * sum + bias[c]);
//       }
//     }
//
// For head_linear the groups are the heads, which have T rows each, without offsets. Row r of the
// loop is token t = r % T of head h = r / T. It reads row t groups + h of x, and writes that of
// out.
//
// With swiglu a column has two such sums. The kernels turn the loop into tiles of rows and columns,
// whose sums stay in registers while k passes through shared memory. decode.cu has no tiles: a warp
// computes four stored rows of the weight for up to 8 rows of x. In few_rows.cu it computes 16 for
// up to 64, on tensor cores.
//
// The arithmetic of a product on a GPU (the CPU keeps f32 throughout):
//   weight f32    f32 products, f32 sums
//   weight bf16   decode, or before sm_80: f32 activations, f32 sums
//                 else tensor cores: activations rounded to bf16 on their way to registers, or, on
//                 Hopper, by a kernel that copies them first, unless the op that wrote them has
//                 rounded them already; f32 sums
//   int8, int4    the same two, with weights exactly as quantised; unlike on the CPU, activations
//   float8        are not quantised. But tiles of 128 rows make e4m3 of them for float8 weights,
//                 on sm_89, sm_120 (sm89_float8.cu) and sm_90a (sm90_float8.cu)
// In every kernel a row's result does not depend on the rows beside it, and is the same in every
// run. The types, the shapes and the chip, which the host knows, choose the kernel; the routing
// never does. No kernel here has run on a GPU yet: they are tested under emulation
// (native/test/simt).
#pragma once

#include <array>
#include <atomic>

#include "cuda/cuda_queue.h"
#include "cuda/elements.cuh"
#include "ops.h"

namespace moepp::cuda {

// The arguments of either op, as kernels take them.
struct Gemm {
  const void* x;               // [rows or more, x_pitch] f32; or bf16 if reads_bf16()
  const int32_t* token_order;  // row r reads x[token_order[r] / picks_per_row]; null: x[r]
  const int32_t* offsets;  // [groups + 1]: group n has the rows offsets[n] .. offsets[n + 1] - 1;
                           // null: every group has group_rows
  const void* weight;      // as in weight_layout.h
  Output out;              // [rows, columns]
  int picks_per_row, groups, rows;  // rows: at most, over all groups
  int group_rows;
  // Row r of group n is row r row_step + n group_step of the output, and so of x without
  // token_order. In head_linear it is another one than r.
  int row_step, group_step;
  int k, x_pitch, pitch;     // elements of a row; from row to row of x, and of the weight
  int weight_rows, columns;  // stored rows of a group, and what they give: half as many with swiglu
  float scale;
  const float* bias;  // [columns], added to the scaled sums; null: nothing. Not with swiglu
  Activation activation;
  DType dtype;    // of the weight
  DType x_dtype;  // f32 | bf16

  template <class X>
  SIMT_DEVICE const X* x_row(int row) const {
    return static_cast<const X*>(x) + static_cast<int64_t>(row) * x_pitch;
  }
  // If each of the rows of x is whole units of that many elements.
  SIMT_HOST_DEVICE bool has_units_of(int elements) const {
    return k % elements == 0 && x_pitch % elements == 0;
  }
};

Gemm gemm_of(const LinearArgs& args);
Gemm gemm_of(const GroupedGemmArgs& args);
Gemm gemm_of(const HeadLinearArgs& args);

enum class GemmKernel {
  kF32,      // any type and chip
  kDecode,   // any type and chip; reads a group's weights once per 8 rows
  kFewRows,  // all but f32: mma.sync; reads a group's weights once per 64 rows, or 32
  kSm80,     // all but f32: mma.sync, tiles of 128 rows; not for tanh
  kSm90,     // bf16 and float8: TMA and wgmma, sm_90a alone; not for tanh
};

// Products that each kernel was launched for by this process, recorded steps counted once: so that
// tests of whole models can tell.
constexpr size_t kGemmKernels = 5;
std::array<std::atomic<int64_t>, kGemmKernels>& gemm_launches();

GemmKernel choose_gemm(const Gemm& gemm, const CudaQueue& queue);
// True if that kernel rounds x, and takes rows of bf16: whole units of 16 bytes.
bool reads_bf16(const Gemm& gemm, const CudaQueue& queue);
void run_gemm(const Gemm& gemm, GemmKernel kernel, CudaQueue& queue);
// True if that kernel multiplies float8 weights by x as e4m3. The chip must do so in hardware, and
// the workspace must have room for x.
bool multiplies_float8(const Gemm& gemm, GemmKernel kernel, const CudaQueue& queue);

// The launchers of the kernels, in the files of this folder.
void gemm_f32(const Gemm& gemm, CudaQueue& queue);
void gemm_decode(const Gemm& gemm, CudaQueue& queue);
void gemm_few_rows(const Gemm& gemm, CudaQueue& queue);
void gemm_sm80(const Gemm& gemm, CudaQueue& queue);
void gemm_sm80_quantised(const Gemm& gemm, CudaQueue& queue);
void gemm_sm89_float8(const Gemm& gemm, CudaQueue& queue);
void gemm_sm90(const Gemm& gemm, CudaQueue& queue);
void gemm_sm90_float8(const Gemm& gemm, CudaQueue& queue);
bool fits_sm89_float8(const Gemm& gemm, const CudaQueue& queue);  // chip and workspace

// Hopper's kernels take a row of x for each of the output's, as bf16 or e4m3. Any other x is copied
// so to the workspace first.
bool serves_as_it_is(const Gemm& gemm);
// The rows of one launch: all, or as many as the workspace holds. 0: not even those of a tile.
int64_t rows_at_once(const Gemm& gemm, const CudaQueue& queue);
// Copies those of the rows first .. end - 1 that a group has, `pitch` elements from one to the
// next. Returns row `first`.
const void* copy_x(const Gemm& gemm, int first, int end, CudaQueue& queue);

// Rows of x as e4m3.
struct Float8Rows {
  unsigned char* numbers;  // [rows, pitch]
  float* scales;           // [pitch / 128, scale_rows]
  int scale_rows;          // the rows, rounded up to 4
};
int64_t float8_bytes(const Gemm& gemm, int64_t rows);
// Quantises the rows first .. end - 1 to the workspace. of_output: the rows are those of the output
// that a group has, else those of x, as they are.
Float8Rows quantise_x(const Gemm& gemm, bool of_output, int first, int end, CudaQueue& queue);

}  // namespace moepp::cuda
