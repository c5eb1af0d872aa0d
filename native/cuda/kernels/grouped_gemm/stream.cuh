// Few rows per group: bound by reading the weights. These are streamed once, 16 bytes per lane,
// past L1; activations stay f32.
//
// A warp computes 4 stored rows of a weight for up to Rows rows of x at once. If that gives too few
// warps to fill the device, several warps of a block share them, each with a part of k (splits).
// Their sums are added in a fixed order. A row's result depends neither on the other rows nor on
// Rows. It depends only on the shape of the weight and on the device.
//
// An Epilogue says which rows a warp takes and what it does with their sums. So a kernel can take
// the op that follows along. It has
//
//   kBlocks                       the most blocks of a multiprocessor with registers for it
//   stored_row(g, warp, j)        row j of a warp's four; rows 0 and 1, 2 and 3 are even neighbours
//   prefetch()                    called before await_inputs()
//   place(g, warp, row, end)      all that a lane needs besides its sum, before the sum
//   write(g, place, sums, total)  with the sum of row lane / 4 of x and stored row lane % 4
//   kEnds                         if the last block to end goes on
//   finished()                    then: the counter by which it is found
//   meanwhile()                   then: what the others do
//   end()                         then: what it does, by all its threads
#pragma once

#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/last_block.cuh"

namespace moepp::cuda::stream {

constexpr int kThreads = 256, kWarps = kThreads / 32, kWeightRows = 4;

template <class WeightType, int RowCount, bool AlignedX>
struct Config {
  using Weight = WeightType;
  static constexpr int kRows = RowCount;             // 1, 2, 4, 8
  static constexpr bool kAligned = AlignedX;         // rows of x are whole float4s
  static constexpr int kSums = kRows * kWeightRows;  // per warp, at most one per lane
  static constexpr bool kQuantised = kIsQuantised<Weight>;
  // Loads in flight: 4 kUnroll per lane. Blocks per multiprocessor: as registers allow.
  static constexpr int kUnroll = kQuantised ? (kRows <= 2 ? 1 : 2) : kRows == 4 ? 1 : 2;
  static constexpr int kBlocks = kRows == 1 ? 3 : kRows <= (kQuantised ? 2 : 4) ? 2 : 1;
};

// Four weights of a unit, from the first or the second half of bf16 ones.
SIMT_DEVICE float4 widen(uint4 unit, int, float) {
  return make_float4(__uint_as_float(unit.x), __uint_as_float(unit.y), __uint_as_float(unit.z),
                     __uint_as_float(unit.w));
}
SIMT_DEVICE float4 widen(uint4 unit, int half, simt::bf16) {
  const float2 low = simt::unpack_bf16(half == 0 ? unit.x : unit.z),
               high = simt::unpack_bf16(half == 0 ? unit.y : unit.w);
  return make_float4(low.x, low.y, high.x, high.y);
}

// Elements k .. k + 3 of a row of x; those past its end are 0.
template <bool kAligned>
SIMT_DEVICE float4 read_x(const float* x, int k, int end) {
  if (kAligned)
    return k < end ? *reinterpret_cast<const float4*>(x + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  return make_float4(k < end ? x[k] : 0.0f, k + 1 < end ? x[k + 1] : 0.0f,
                     k + 2 < end ? x[k + 2] : 0.0f, k + 3 < end ? x[k + 3] : 0.0f);
}

SIMT_DEVICE float add_products(float4 x, float4 w, float sum) {
  return fmaf(x.w, w.w, fmaf(x.z, w.z, fmaf(x.y, w.y, fmaf(x.x, w.x, sum))));
}

// The columns of the output, and nothing else.
struct Columns {
  static constexpr int kBlocks = 3;
  static constexpr bool kEnds = false;
  struct Place {
    int warp, row, end;
  };
  // With swiglu 2 gate rows and the 2 up rows of the same columns.
  SIMT_DEVICE int stored_row(const Gemm& g, int warp, int j) const {
    if (g.activation != Activation::kSwiglu) return warp * kWeightRows + j;
    return swiglu_row(warp * 2 + j % 2) + (j < 2 ? 0 : 8);
  }
  SIMT_DEVICE void prefetch() const {}
  SIMT_DEVICE Place place(const Gemm&, int warp, int row, int end) const {
    return {warp, row, end};
  }
  SIMT_DEVICE void write(const Gemm& g, const Place& place, int sums, float total) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, j = lane % kWeightRows,
              row = place.row + lane / kWeightRows;
    const float up = __shfl_sync(simt::kFullMask, total, (lane + 2) % 32);
    const bool swiglu = g.activation == Activation::kSwiglu;
    const int column = swiglu ? place.warp * 2 + j : place.warp * kWeightRows + j;
    if (lane >= sums || row >= place.end || column >= g.columns || (swiglu && j >= 2)) return;
    g.out.store(
        static_cast<int64_t>(out_row(g, static_cast<int>(blockIdx.y), row)) * g.columns + column,
        {swiglu ? finish_swiglu(g, total, up) : moepp::cuda::finish(g, column, total)});
  }
};

// Units of 16 bytes of a stored row.
template <class C>
SIMT_DEVICE int row_units(const Gemm& g) {
  if constexpr (C::kQuantised) {
    return g.pitch / static_cast<int>(kQuantBlock) * (C::Weight::kBlockBytes / 16);
  } else {
    return g.pitch / static_cast<int>(16 / sizeof(typename C::Weight));
  }
}

// The beginnings of the rows of x that rows row .. row + kRows - 1 read. Those past the last one
// repeat it. Few rows are far from 2^31 elements, and an int is half as long as a pointer.
template <int kRows>
SIMT_DEVICE void find_x(const Gemm& g, int group, int row, int end, int (&x)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; r++) x[r] = source_row(g, group, min(row + r, end - 1)) * g.x_pitch;
}

// Adds the products of a unit of each of the four stored rows: sum[4 r + j].
template <class C>
SIMT_DEVICE void add_unit(const Gemm& g, const uint4 (&packed)[kWeightRows], int unit,
                          const int (&x)[C::kRows], float (&sum)[C::kSums]) {
  constexpr int kUnit = 16 / sizeof(typename C::Weight);  // weights of one load
#pragma unroll
  for (int half = 0; half < kUnit / 4; half++) {
    float4 w[kWeightRows];
#pragma unroll
    for (int j = 0; j < kWeightRows; j++) w[j] = widen(packed[j], half, typename C::Weight{});
#pragma unroll
    for (int r = 0; r < C::kRows; r++) {
      const float4 v = read_x<C::kAligned>(g.x_row<float>(0) + x[r], unit * kUnit + half * 4, g.k);
#pragma unroll
      for (int j = 0; j < kWeightRows; j++)
        sum[r * kWeightRows + j] = add_products(v, w[j], sum[r * kWeightRows + j]);
    }
  }
}

// sum[4 r + j] of this lane's share of k.
template <class C, class Epilogue>
SIMT_DEVICE void multiply(const Gemm& g, const Epilogue& epilogue, int group, int warp, int row,
                          int end, int split, int splits, float (&sum)[C::kSums]) {
  int x[C::kRows];
  find_x(g, group, row, end, x);
  const int units = row_units<C>(g);
  const uint4* weight[kWeightRows];
#pragma unroll
  for (int j = 0; j < kWeightRows; j++) {
    const int stored = min(epilogue.stored_row(g, warp, j), g.weight_rows - 1);
    weight[j] = static_cast<const uint4*>(g.weight) +
                (static_cast<int64_t>(group) * g.weight_rows + stored) * units;
  }
#pragma unroll
  for (int i = 0; i < C::kSums; i++) sum[i] = 0.0f;
#pragma unroll C::kUnroll
  for (int unit = split * 32 + static_cast<int>(threadIdx.x) % 32; unit < units;
       unit += splits * 32) {
    uint4 packed[kWeightRows];
#pragma unroll
    for (int j = 0; j < kWeightRows; j++) packed[j] = simt::load_stream(weight[j] + unit);
    add_unit<C>(g, packed, unit, x, sum);
  }
}

// Before await_inputs(): asks L2 for this warp's stored rows, so that they are on their way while
// the kernel before ends. The rows are known with one group. They are known with sorted rows of x
// (down), since the routing was done before the kernel that wrote x. They are not known with
// token_order (gate_up), whose routing comes from the kernel before.
template <class C, class Epilogue>
SIMT_DEVICE void prefetch_rows(const Gemm& g, const Epilogue& epilogue, int group, int warp,
                               int split, int splits) {
  constexpr int kLine = 128;
  int64_t row_bytes = static_cast<int64_t>(g.pitch) * sizeof(typename C::Weight);
  const void* rows = static_cast<const char*>(g.weight) + group * g.weight_rows * row_bytes;
  if constexpr (C::kQuantised) {
    const QuantisedGroup<typename C::Weight> quantised(g.weight, group, g.weight_rows, g.pitch);
    rows = quantised.values;
    row_bytes = quantised.row_bytes;
  }
  const int lines = static_cast<int>((row_bytes + kLine - 1) / kLine);
  for (int i = split * 32 + static_cast<int>(threadIdx.x) % 32; i < kWeightRows * lines;
       i += splits * 32) {
    const int stored = min(epilogue.stored_row(g, warp, i / lines), g.weight_rows - 1);
    simt::prefetch_l2(static_cast<const char*>(rows) + stored * row_bytes + i % lines * kLine);
  }
}

// The words with the scales of block b of a warp's four stored rows: two and two neighbours.
template <class W, class Epilogue>
SIMT_DEVICE void load_scales(const Gemm& g, const Epilogue& epilogue, const QuantisedGroup<W>& w,
                             int warp, int b, uint32_t (&scales)[kWeightRows]) {
  const uint32_t* block = w.scales + static_cast<int64_t>(b) * w.scale_rows;
  const int apart = epilogue.stored_row(g, warp, 2) - epilogue.stored_row(g, warp, 0),
            first = min(epilogue.stored_row(g, warp, 0), w.scale_rows - 2 - apart);
  const uint2 low = __ldg(reinterpret_cast<const uint2*>(block + first));
  const uint2 high = __ldg(reinterpret_cast<const uint2*>(block + first + apart));
  scales[0] = low.x, scales[1] = low.y, scales[2] = high.x, scales[3] = high.y;
}

// Four products, before their scale.
SIMT_DEVICE float dot(float4 x, const float (&w)[4]) {
  return fmaf(x.w, w[3], fmaf(x.z, w[2], fmaf(x.y, w[1], x.x * w[0])));
}

// add_unit for int8, int4 and float8 weights: the values are exact, the sum of four products is
// scaled and added.
template <class C>
SIMT_DEVICE void add_unit(const Gemm& g, const uint4 (&units)[kWeightRows],
                          const uint32_t (&scales)[kWeightRows], int unit, const int (&x)[C::kRows],
                          float (&sum)[C::kSums]) {
  using W = typename C::Weight;
  constexpr int kFours = W::kWordDepth / 16, kDepth = 4 * W::kWordDepth;  // k of 4 units
  uint32_t packed[kWeightRows][4];
#pragma unroll
  for (int j = 0; j < kWeightRows; j++) {
    packed[j][0] = units[j].x, packed[j][1] = units[j].y, packed[j][2] = units[j].z,
    packed[j][3] = units[j].w;
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float scale[kWeightRows];
#pragma unroll
    for (int j = 0; j < kWeightRows; j++) scale[j] = W::word_scale(scales[j], i);
#pragma unroll
    for (int n = 0; n < kFours; n++) {
      float values[kWeightRows][4];
#pragma unroll
      for (int j = 0; j < kWeightRows; j++) W::widen(packed[j][i], n, values[j]);
      const int k = unit / 4 * kDepth + unit % 4 * 4 + i * W::kWordDepth + n * 16;
#pragma unroll
      for (int r = 0; r < C::kRows; r++) {
        const float4 v = read_x<C::kAligned>(g.x_row<float>(0) + x[r], k, g.k);
#pragma unroll
        for (int j = 0; j < kWeightRows; j++) {
          float& to = sum[r * kWeightRows + j];
          to = fmaf(scale[j], dot(v, values[j]), to);
        }
      }
    }
  }
}

// multiply for them.
template <class C, class Epilogue>
SIMT_DEVICE void multiply_quantised(const Gemm& g, const Epilogue& epilogue, int group, int warp,
                                    int row, int end, int split, int splits,
                                    float (&sum)[C::kSums]) {
  using W = typename C::Weight;
  constexpr int kUnits = W::kBlockBytes / 16;
  int x[C::kRows];
  find_x(g, group, row, end, x);
  const QuantisedGroup<W> w(g.weight, group, g.weight_rows, g.pitch);
  const int units = row_units<C>(g);
  unsigned weight[kWeightRows];  // where the rows begin, in units: 2^32 of them are 64 GB
#pragma unroll
  for (int j = 0; j < kWeightRows; j++) {
    weight[j] = static_cast<unsigned>(min(epilogue.stored_row(g, warp, j), g.weight_rows - 1)) *
                static_cast<unsigned>(units);
  }
#pragma unroll
  for (int i = 0; i < C::kSums; i++) sum[i] = 0.0f;
#pragma unroll C::kUnroll
  for (int unit = split * 32 + static_cast<int>(threadIdx.x) % 32; unit < units;
       unit += splits * 32) {
    uint4 packed[kWeightRows];
    uint32_t scales[kWeightRows];
#pragma unroll
    for (int j = 0; j < kWeightRows; j++) {
      packed[j] = simt::load_stream(reinterpret_cast<const uint4*>(w.values) + weight[j] + unit);
    }
    load_scales(g, epilogue, w, warp, unit / kUnits, scales);
    add_unit<C>(g, packed, scales, unit, x, sum);
  }
}

// Lane i gets the i-th sum over the warp.
template <int N>
SIMT_DEVICE float deal(const float (&sum)[N]) {
  float mine = 0.0f;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float total = warp_sum(sum[i]);
    if (static_cast<int>(threadIdx.x) % 32 == i) mine = total;
  }
  return mine;
}

// The sum over the warps that share k, in order. By all that compute.
SIMT_DEVICE float add_splits(float mine, int split, int splits) {
  if (splits == 1) return mine;
  auto* partial = simt::smem<float>();  // [kWarps][32]
  const int thread = static_cast<int>(threadIdx.x);
  partial[thread] = mine;
  simt::sync_threads<kThreads>();
  float total = 0.0f;
  for (int i = 0; i < splits; i++) total += partial[thread + (i - split) * 32];
  simt::sync_threads<kThreads>();
  return total;
}

// The rows of a group, kRows at a time.
template <class C, class Epilogue>
SIMT_DEVICE void stream_group(const Gemm& g, const Epilogue& epilogue, int group, int warp,
                              int split, int splits) {
  const int end = end_row(g, group);
  for (int row = first_row(g, group); row < end; row += C::kRows) {
    const auto place = epilogue.place(g, warp, row, end);
    float sum[C::kSums];
    if constexpr (C::kQuantised) {
      multiply_quantised<C>(g, epilogue, group, warp, row, end, split, splits, sum);
    } else {
      multiply<C>(g, epilogue, group, warp, row, end, split, splits, sum);
    }
    const float total = add_splits(deal(sum), split, splits);
    if (split == 0) epilogue.write(g, place, C::kSums, total);
  }
}

template <class C, class Epilogue>
constexpr int blocks() {
  return C::kBlocks < Epilogue::kBlocks ? C::kBlocks : Epilogue::kBlocks;
}

template <class C, class Epilogue>
__global__ void __launch_bounds__(kThreads, (blocks<C, Epilogue>()))
    multiply_streamed(const Gemm g, int splits, bool prefetch, const Epilogue epilogue) {
  const int warp_in_block = static_cast<int>(threadIdx.x) / 32, split = warp_in_block % splits;
  const int warp = static_cast<int>(blockIdx.x) * (kWarps / splits) + warp_in_block / splits;
  if (SIMT_HAS_SM90 && prefetch) {
    epilogue.prefetch();
    const int expected =
        g.token_order == nullptr ? occupied_group(g, static_cast<int>(blockIdx.y)) : -1;
    if (expected >= 0) prefetch_rows<C>(g, epilogue, expected, warp, split, splits);
  }
  await_inputs();
  const int group = occupied_group(g, static_cast<int>(blockIdx.y));
  if (group >= 0) stream_group<C>(g, epilogue, group, warp, split, splits);
  if constexpr (Epilogue::kEnds) {
    if (is_last_block<kThreads>(epilogue.finished(), gridDim.x * gridDim.y, simt::smem<int>()))
      epilogue.end();
    else
      epilogue.meanwhile();
  }
}

struct RotatedColumns;
struct ThenRoute;
struct ThenCombine;
// Puts a token's product on the queue's list of stages (persistent/stages.h), `per_group` blocks
// for a group. False: it has none, or no room.
bool add_stage(const Gemm& g, int splits, int per_group, const Columns& epilogue, size_t bytes,
               CudaQueue& queue);
bool add_stage(const Gemm& g, int splits, int per_group, const RotatedColumns& epilogue,
               size_t bytes, CudaQueue& queue);
bool add_stage(const Gemm& g, int splits, int per_group, const ThenRoute& epilogue, size_t bytes,
               CudaQueue& queue);
bool add_stage(const Gemm& g, int splits, int per_group, const ThenCombine& epilogue, size_t bytes,
               CudaQueue& queue);

// `bytes` of shared memory are for end().
template <class C, class Epilogue>
void launch(const Gemm& g, CudaQueue& queue, const Epilogue& epilogue, size_t bytes = 0) {
  const int outputs = g.activation == Activation::kSwiglu ? 2 : kWeightRows;  // columns per warp
  const int warps = (g.columns + outputs - 1) / outputs,
            groups = g.groups < g.rows ? g.groups : g.rows;
  // 16 warps of each multiprocessor keep enough bytes on their way. Only the shape of the weight
  // decides, so that a row's sums are split alike in every batch.
  int splits = 1;
  while (splits < kWarps && warps * splits < 16 * queue.multiprocessors()) splits *= 2;
  const int per_block = kWarps / splits, across = (warps + per_block - 1) / per_block;
  constexpr size_t kPartial = kThreads * sizeof(float);
  if (bytes < kPartial) bytes = kPartial;
  if constexpr (C::kRows == 1 && C::kAligned) {
    if (add_stage(g, splits, across, epilogue, bytes, queue)) return;
  }
  const simt::Launch how = {dim3(static_cast<unsigned>(across), static_cast<unsigned>(groups)),
                            dim3(kThreads), bytes};
  queue.launch(multiply_streamed<C, Epilogue>, how, g, splits, queue.prefetches(), epilogue);
}

// with(weight) of the type that the weight's elements have.
template <class With>
void with_weight(DType dtype, const With& with) {
  if (dtype == DType::kF32) return with(float());
  if (dtype == DType::kI8) return with(Int8Weight());
  if (dtype == DType::kI4) return with(Int4Weight());
  if (dtype == DType::kF8) return with(Float8Weight());
  with(simt::bf16());
}

// One token, whose rows of x are whole float4s.
inline bool takes_epilogue(const Gemm& g, const CudaQueue& queue) {
  return queue.fuses() && g.rows == g.picks_per_row && g.k % 4 == 0 &&
         choose_gemm(g, queue) == GemmKernel::kDecode;
}
// The most shared memory that an epilogue may take: two or three blocks share a multiprocessor, and
// the smallest has 64 KB.
constexpr size_t kMostBytes = 32 * 1024;

template <class Epilogue>
void launch_with(const Gemm& g, CudaQueue& queue, const Epilogue& epilogue, size_t bytes = 0) {
  gemm_launches()[static_cast<size_t>(GemmKernel::kDecode)]++;
  with_weight(g.dtype, [&](auto weight) {
    launch<Config<decltype(weight), 1, true>>(g, queue, epilogue, bytes);
  });
}

}  // namespace moepp::cuda::stream
