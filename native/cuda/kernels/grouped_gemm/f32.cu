// Tiles of 64 x 128 in f32 FMAs, 8 x 8 per thread, for any shape. They serve f32 weights, and the
// others where there are no bf16 tensor cores (sm_75). Each output is one chain of FMAs with k
// ascending, so that a row does not depend on the number of rows.
// SASS * multiply_f32IfE: FFMA>=1024 LDS !LDL !STL registers<=168 no-spills
// SASS * multiply_f32I13__nv_bfloat16E: FFMA>=1024 LDS !LDL !STL registers<=168 no-spills
// SASS * multiply_f32INS0_10Int: FFMA>=1024 LDS !LDL !STL registers<=224 no-spills
// SASS * multiply_f32INS0_12Float8: FFMA>=1024 LDS !LDL !STL registers<=224 no-spills
#include "cuda/kernels/grouped_gemm/quantised.cuh"

namespace moepp::cuda {

namespace {

constexpr int kThreads = 128, kRows = 64, kColumns = 128, kDepth = 16;

// Transposed, k outermost: a thread reads its 8 rows or columns as two float4.
struct Smem {
  float x[kDepth][kRows + 4];
  float weight[kDepth][kColumns + 4];
  int source[kRows];  // the row of x, or -1
};

// One group's weight, element by element, as f32: exact.
template <class Weight, bool kQuantised = kIsQuantised<Weight>>
struct Elements : QuantisedGroup<Weight> {
  SIMT_DEVICE Elements(const Gemm& g, int group)
      : QuantisedGroup<Weight>(g.weight, group, g.weight_rows, g.pitch) {}
};
template <class Weight>
struct Elements<Weight, false> {
  const Weight* from;
  int pitch;

  SIMT_DEVICE Elements(const Gemm& g, int group)
      : from(static_cast<const Weight*>(g.weight) +
             static_cast<int64_t>(group) * g.weight_rows * g.pitch),
        pitch(g.pitch) {}
  SIMT_DEVICE float value(int row, int k) const {
    return widen(from[static_cast<int64_t>(row) * pitch + k]);
  }
  static SIMT_DEVICE float widen(float w) { return w; }
  static SIMT_DEVICE float widen(simt::bf16 w) { return simt::to_float(w); }
};

// A thread's load from global to shared memory for one step of k: the elements k + t % 16 of every
// eighth row.
constexpr int kLoadRows = kThreads / kDepth;
template <class Weight>
struct Slice {
  float x[kRows / kLoadRows], weight[kColumns / kLoadRows];

  SIMT_DEVICE void load(const Gemm& g, const Tile& tile, const int* source, int k0) {
    const int k = k0 + static_cast<int>(threadIdx.x) % kDepth,
              first = static_cast<int>(threadIdx.x) / kDepth;
    const Elements<Weight> from(g, tile.group);
#pragma unroll
    for (int i = 0; i < kRows / kLoadRows; i++) {
      const int row = source[first + i * kLoadRows];
      x[i] = row >= 0 && k < g.k ? g.x_row<float>(row)[k] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kColumns / kLoadRows; i++) {
      const int row = tile.column + first + i * kLoadRows;
      weight[i] = row < g.weight_rows && k < g.k ? from.value(row, k) : 0.0f;
    }
  }
  SIMT_DEVICE void store(Smem& s) const {
    const int k = static_cast<int>(threadIdx.x) % kDepth,
              first = static_cast<int>(threadIdx.x) / kDepth;
#pragma unroll
    for (int i = 0; i < kRows / kLoadRows; i++) s.x[k][first + i * kLoadRows] = x[i];
#pragma unroll
    for (int i = 0; i < kColumns / kLoadRows; i++) s.weight[k][first + i * kLoadRows] = weight[i];
  }
};

// A thread has 4 stored rows of a weight and the 4 that come 8 later: with swiglu, gate and up of
// the same columns.
SIMT_DEVICE int thread_column() {
  const int t = static_cast<int>(threadIdx.x) % 16;
  return t / 2 * 16 + t % 2 * 4;
}

SIMT_DEVICE void read8(float (&v)[8], const float* low, const float* high) {
  const float4 a = *reinterpret_cast<const float4*>(low),
               b = *reinterpret_cast<const float4*>(high);
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

SIMT_DEVICE void multiply(const Smem& s, int row, int column, float (&sum)[8][8]) {
#pragma unroll
  for (int k = 0; k < kDepth; k++) {
    float x[8], weight[8];
    read8(x, &s.x[k][row], &s.x[k][row + 4]);
    read8(weight, &s.weight[k][column], &s.weight[k][column + 8]);
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
      for (int j = 0; j < 8; j++) sum[i][j] = fmaf(x[i], weight[j], sum[i][j]);
    }
  }
}

SIMT_DEVICE void write(const Gemm& g, const Tile& tile, int row, int column,
                       const float (&sum)[8][8]) {
  const bool swiglu = g.activation == Activation::kSwiglu;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    if (tile.row + row + i >= tile.end) continue;
    const int64_t out =
        static_cast<int64_t>(out_row(g, tile.group, tile.row + row + i)) * g.columns;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int place = tile.column + column + (j < 4 ? j : j + 4);
      if (!swiglu) {
        if (place < g.columns) g.out.store(out + place, {finish(g, place, sum[i][j])});
      } else if (j < 4 && place / 16 * 8 + place % 16 < g.columns) {
        g.out.store(out + place / 16 * 8 + place % 16,
                    {finish_swiglu(g, sum[i][j], sum[i][j + 4])});
      }
    }
  }
}

template <class Weight>
__global__ void __launch_bounds__(kThreads) multiply_f32(const Gemm g) {
  await_inputs();
  auto& s = *simt::smem<Smem>();
  TileWalk<kRows, kColumns> walk;
  const int row = static_cast<int>(threadIdx.x) / 16 * 8, column = thread_column();
  Tile tile;
  for (int64_t number = blockIdx.x; walk.find(g, number, &tile); number += gridDim.x) {
    for (int i = threadIdx.x; i < kRows; i += kThreads) {
      s.source[i] = tile.row + i < tile.end ? source_row(g, tile.group, tile.row + i) : -1;
    }
    __syncthreads();
    float sum[8][8] = {};
    Slice<Weight> slice;
    slice.load(g, tile, s.source, 0);
    for (int k = 0; k < g.k; k += kDepth) {
      slice.store(s);
      __syncthreads();
      if (k + kDepth < g.k) slice.load(g, tile, s.source, k + kDepth);
      multiply(s, row, column, sum);
      __syncthreads();
    }
    write(g, tile, row, column, sum);
  }
}

}  // namespace

void gemm_f32(const Gemm& g, CudaQueue& queue) {
  const int64_t tiles = most_tiles(g, kRows, kColumns), blocks = 4 * queue.multiprocessors();
  const simt::Launch how = {dim3(static_cast<unsigned>(tiles < blocks ? tiles : blocks)),
                            dim3(kThreads), sizeof(Smem)};
  const auto kernel = g.dtype == DType::kF32  ? multiply_f32<float>
                      : g.dtype == DType::kI8 ? multiply_f32<Int8Weight>
                      : g.dtype == DType::kI4 ? multiply_f32<Int4Weight>
                      : g.dtype == DType::kF8 ? multiply_f32<Float8Weight>
                                              : multiply_f32<simt::bf16>;
  queue.launch(kernel, how, g);
}

}  // namespace moepp::cuda
