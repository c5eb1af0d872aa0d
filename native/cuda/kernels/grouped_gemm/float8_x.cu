// x as e4m3, for the products that multiply float8 weights by it: 128 k of a row become numbers and
// a scale, largest / 448. Rows are bf16 then, or are rounded to it first. Within 64 k the numbers
// stand in the order of the weights' (weight_layout.h). A warp takes 128 k of a row, a lane four.
// SASS sm_89,sm_90a,sm_100,sm_120 quantise_rows: LDG STG !LDL !STL registers<=48 no-spills
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/simt/float8.h"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kBlock = static_cast<int>(kQuantBlock), kLineBytes = 64;
constexpr float kLargest = 448.0f;

// of_output: the rows are those of the output, else those of x. N: elements of one access.
template <class X, int N>
__global__ void __launch_bounds__(kThreads)
    quantise_rows(const Gemm g, bool of_output, int first, int end, Float8Rows to) {
  SIMT_REQUIRES(SIMT_HAS_E4M3) {
    await_inputs();
    const int blocks = g.pitch / kBlock, lane = static_cast<int>(threadIdx.x) % 32,
              rows = (of_output ? min(end, end_row(g, g.groups - 1)) : end) - first;
    const int64_t units = static_cast<int64_t>(max(rows, 0)) * blocks;
    for (int64_t unit = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; unit < units;
         unit += static_cast<int64_t>(gridDim.x) * kWarps) {
      const int row = static_cast<int>(unit / blocks), block = static_cast<int>(unit % blocks),
                k = block * kBlock + lane * 4;
      const int source = of_output ? source_row(g, first + row) : first + row;
      float v[4] = {};
#pragma unroll
      for (int i = 0; i < 4; i += N) {
        float part[N];
        if (k + i >= g.k) break;
        load_elements(g.x_row<X>(source) + k + i, part);
#pragma unroll
        for (int j = 0; j < N; j++) v[i + j] = simt::to_float(simt::to_bf16(part[j]));
      }
      int most = 0;  // as bits: those of NaN are above all others
#pragma unroll
      for (int i = 0; i < 4; i++) most = max(most, __float_as_int(v[i]) & 0x7fffffff);
      const float largest = __int_as_float(simt::reduce_max(simt::kFullMask, most));
      const bool is_zero = largest < kSmallestQuantised;
      const float inverse = is_zero ? 0.0f : kLargest / largest;
      const uint32_t numbers = simt::pack_e4m3(v[0] * inverse, v[1] * inverse) |
                               simt::pack_e4m3(v[2] * inverse, v[3] * inverse) << 16;
      const int place = lane / 16 * kLineBytes + lane % 4 * 16 + lane / 4 % 4 * 4;
      *reinterpret_cast<uint32_t*>(to.numbers + unit * kBlock + place) = numbers;
      if (lane == 0) {
        to.scales[static_cast<int64_t>(block) * to.scale_rows + row] =
            is_zero ? 0.0f : largest / kLargest;
      }
    }
  }
}

int64_t rounded_up(int64_t rows) {
  return (rows + 3) / 4 * 4;  // TMA takes whole units of 16 bytes
}

}  // namespace

int64_t float8_bytes(const Gemm& g, int64_t rows) {
  constexpr int64_t kScale = sizeof(float);
  return rounded_up(rows) * (g.pitch + g.pitch / kBlock * kScale);
}

Float8Rows quantise_x(const Gemm& g, bool of_output, int first, int end, CudaQueue& queue) {
  const int64_t rows = end - first, units = rows * (g.pitch / kBlock),
                wanted = (units + kWarps - 1) / kWarps, most = 8 * queue.multiprocessors();
  auto* numbers = static_cast<unsigned char*>(queue.workspace(float8_bytes(g, rows)));
  auto* scales = reinterpret_cast<float*>(numbers + rounded_up(rows) * g.pitch);
  const Float8Rows to = {numbers, scales, static_cast<int>(rounded_up(rows))};
  const simt::Launch how = {dim3(static_cast<unsigned>(wanted < most ? wanted : most)),
                            dim3(kThreads)};
  const auto kernel = g.x_dtype == DType::kBf16 ? quantise_rows<simt::bf16, 4>
                      : g.has_units_of(4)       ? quantise_rows<float, 4>
                                                : quantise_rows<float, 1>;
  queue.launch(kernel, how, g, of_output, first, end, to);
  return to;
}

}  // namespace moepp::cuda
