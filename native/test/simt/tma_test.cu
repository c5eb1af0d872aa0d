// mbarrier, TMA, bulk copies and wgmma: what sm_90 adds.
#include "device_test.h"

namespace moepp::simt_test {

using simt::bf16;
using simt::Element;
using simt::Mbarrier;
using simt::Swizzle;
using simt::TensorMap;

struct TileSmem {
  alignas(1024) unsigned char tile[8192];
  Mbarrier full;
};

// Loads one box, hands out shared memory as it lies there, and stores the box elsewhere.
static __global__ void move_tile(const __grid_constant__ TensorMap from,
                                 const __grid_constant__ TensorMap to, int x, int y, uint32_t bytes,
                                 unsigned char* raw) {
  SIMT_REQUIRES(SIMT_HAS_SM90) {
    auto& s = *simt::smem<TileSmem>();
    if (threadIdx.x == 0) {
      simt::tma_prefetch_map(&from);
      simt::mbar_init(&s.full, 1);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      simt::mbar_arrive_expect_tx(&s.full, bytes);
      simt::tma_load(s.tile, &from, x, y, &s.full);
    }
    simt::mbar_wait(&s.full, 0);
    for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) raw[i] = s.tile[i];
    if (threadIdx.x == 0) {
      simt::fence_proxy_async();
      simt::tma_store(&to, x, y, s.tile);
      simt::tma_store_commit();
      simt::tma_store_wait<0>();
    }
  }
}

// A matrix of 20 x 80 bf16 with a pitch of 96; the box of 16 rows begins at (x, y), perhaps
// outside.
static void expect_tile(Swizzle swizzle, int box_columns, int x, int y) {
  const int rows = 20, columns = 80, pitch = 96, box_rows = 16, unit = 8;
  Shared<bf16> from(rows * pitch), to(rows * pitch, simt::to_bf16(-99.0f)),
      raw(static_cast<size_t>(box_rows * box_columns));
  for (size_t i = 0; i < from.size(); i++) from[i] = simt::to_bf16(static_cast<float>(i % 251));
  TensorMap source, target;
  simt::TileMap tile = {from.device(), Element::kBf16, columns,
                        rows,          pitch * 2,      static_cast<uint32_t>(box_columns),
                        box_rows,      swizzle};
  EXPECT(simt::make_tensor_map(&source, tile) == simt::kSuccess);
  tile.data = to.device();
  EXPECT(simt::make_tensor_map(&target, tile) == simt::kSuccess);
  EXPECT_RUNS(move_tile, {dim3(1), dim3(64), sizeof(TileSmem)}, source, target, x, y,
              static_cast<uint32_t>(box_rows * box_columns * 2),
              reinterpret_cast<unsigned char*>(raw.data()));
  for (int r = 0; r < box_rows; r++) {
    for (int c = 0; c < box_columns; c++) {
      const bool inside = x + c >= 0 && x + c < columns && y + r >= 0 && y + r < rows;
      // By row, from the pictures in PTX: eight rows of 128 bytes, of 64 bytes in pairs, of 32
      // bytes in fours.
      const int flip = swizzle == Swizzle::k128  ? r % 8
                       : swizzle == Swizzle::k64 ? r / 2 % 4
                       : swizzle == Swizzle::k32 ? r / 4 % 2
                                                 : 0;
      const int place = r * box_columns + (c / unit ^ flip) * unit + c % unit;
      const float expected =
          inside ? simt::to_float(from[static_cast<size_t>((y + r) * pitch + x + c)]) : 0.0f;
      EXPECT(simt::to_float(raw[static_cast<size_t>(place)]) == expected);
    }
  }
  for (int i = 0; i < rows * pitch; i++) {
    const int r = i / pitch - y, c = i % pitch - x;
    const bool moved = r >= 0 && r < box_rows && c >= 0 && c < box_columns && i % pitch < columns;
    const auto at = static_cast<size_t>(i);
    EXPECT(simt::to_float(to[at]) == (moved ? simt::to_float(from[at]) : -99.0f));
  }
}

MOEPP_TEST(simt_tma_moves_swizzles_and_fills) {
  if (!has_tma()) return;
  for_each_schedule([] {
    expect_tile(Swizzle::k128, 64, 0, 0);
    expect_tile(Swizzle::k128, 64, 48, 8);
    expect_tile(Swizzle::k128, 64, -8, -3);
    expect_tile(Swizzle::k64, 32, 16, 4);
    expect_tile(Swizzle::k32, 16, 72, 12);
    expect_tile(Swizzle::kNone, 24, 8, 1);
  });
}

// A ring of two stages filled by bulk copies, emptied by a warp: parities, expected bytes, arrivals
// of every consumer.
struct RingSmem {
  alignas(16) int stage[2][64];
  Mbarrier full[2], empty[2];
};
static __global__ void drain_ring(const int* in, int steps, int* out) {
  SIMT_REQUIRES(SIMT_HAS_SM90) {
    auto& s = *simt::smem<RingSmem>();
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; i++) simt::mbar_init(&s.full[i], 1), simt::mbar_init(&s.empty[i], 64);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      const int mine = simt::elect_one() ? steps : 0;
      for (int step = 0; step < mine; step++) {
        simt::mbar_wait(&s.empty[step % 2], (step / 2 + 1) % 2);
        simt::mbar_arrive_expect_tx(&s.full[step % 2], sizeof s.stage[0]);
        simt::bulk_load(s.stage[step % 2], in + 64 * step, sizeof s.stage[0], &s.full[step % 2]);
      }
    } else {
      int sum = 0;
      for (int step = 0; step < steps; step++) {
        simt::mbar_wait(&s.full[step % 2], step / 2 % 2);
        sum += (step + 1) * s.stage[step % 2][95 - threadIdx.x];
        simt::mbar_arrive(&s.empty[step % 2]);
      }
      out[threadIdx.x - 32] = sum;
    }
  }
}

MOEPP_TEST(simt_mbarriers_turn_phase_by_phase) {
  if (!has_tma()) return;
  for_each_schedule([] {
    const size_t steps = 7;
    Shared<int> in(64 * steps), out(64);
    for (size_t i = 0; i < in.size(); i++) in[i] = small_integer(i, 5);
    EXPECT_RUNS(drain_ring, {dim3(1), dim3(96), sizeof(RingSmem)}, in.data(),
                static_cast<int>(steps), out.data());
    for (size_t t = 0; t < 64; t++) {
      int sum = 0;
      for (size_t step = 0; step < steps; step++)
        sum += static_cast<int>(step + 1) * in[64 * step + 63 - t];
      EXPECT(out[t] == sum);
    }
  });
}

// Rows gathered by cp.async of one warp, whose landing the mbarrier tells to another.
static __global__ void gather(const int* in, const int* rows, int* out) {
  SIMT_REQUIRES(SIMT_HAS_SM90) {
    struct Smem {
      alignas(16) int data[2][128];
      Mbarrier full[2];
    };
    auto& s = *simt::smem<Smem>();
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; i++) simt::mbar_init(&s.full[i], 32);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    const int lane = threadIdx.x % 32;
    for (int i = 0; i < 2; i++) {
      if (threadIdx.x < 32) {
        simt::cp_async<16>(&s.data[i][4 * lane], &in[4 * rows[32 * i + lane]]);
        simt::cp_async_mbar_arrive(&s.full[i]);
      } else {
        simt::mbar_wait(&s.full[i], 0);
        for (int j = lane; j < 128; j += 32) out[128 * i + j] = s.data[i][j];
      }
    }
  }
}

MOEPP_TEST(simt_cp_async_arrives_on_an_mbarrier) {
  if (!has_tma()) return;
  for_each_schedule([] {
    Shared<int> in(400), rows(64), out(256);
    for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<int>(i);
    for (size_t i = 0; i < rows.size(); i++) rows[i] = static_cast<int>(i * 37 % 100);
    EXPECT_RUNS(gather, {dim3(1), dim3(64), 2 * 128 * 4 + 16}, in.data(), rows.data(), out.data());
    for (size_t i = 0; i < 256; i++) EXPECT(out[i] == rows[i / 4] * 4 + static_cast<int>(i % 4));
  });
}

// d [64, N] = a [64, 128] b^T, b [N, 128], in boxes of a swizzle's width along k; all but the first
// add to those before.
template <int N, Swizzle kSwizzle>
struct ProductSmem {
  static constexpr int kWidth = kSwizzle == Swizzle::k128 ? 64 : kSwizzle == Swizzle::k64 ? 32 : 16;
  alignas(1024) bf16 a[64 * kWidth];
  alignas(1024) bf16 b[N * kWidth];
  Mbarrier full;
};
template <int N, Swizzle kSwizzle>
static __global__ void __launch_bounds__(128)
    multiply_tiles(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                   float* d) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    using Smem = ProductSmem<N, kSwizzle>;
    auto& s = *simt::smem<Smem>();
    const int t = threadIdx.x;
    if (t == 0) {
      simt::mbar_init(&s.full, 1);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    float acc[N / 2];
    for (int x = 0, parity = 0; x < 128; x += Smem::kWidth, parity ^= 1) {
      if (t == 0) {
        simt::mbar_arrive_expect_tx(&s.full, sizeof s.a + sizeof s.b);
        simt::tma_load(s.a, &a, x, 0, &s.full);
        simt::tma_load(s.b, &b, x, 0, &s.full);
      }
      simt::mbar_wait(&s.full, parity);
      simt::wgmma_fence();
#pragma unroll
      for (int k = 0; k < Smem::kWidth; k += 16) {
        simt::wgmma_bf16<N>(acc, simt::wgmma_descriptor(s.a + k, kSwizzle),
                            simt::wgmma_descriptor(s.b + k, kSwizzle), x + k > 0);
      }
      simt::wgmma_commit();
      simt::wgmma_wait<0>();
      __syncthreads();  // before the tiles are overwritten
    }
    for (int i = 0; i < N / 2; i++) {
      const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8,
                column = i / 4 * 8 + t % 4 * 2 + i % 2;
      d[row * N + column] = acc[i];
    }
  }
}

static Shared<bf16> small_integers(size_t count, unsigned seed) {
  Shared<bf16> values(count);
  for (size_t i = 0; i < count; i++)
    values[i] = simt::to_bf16(static_cast<float>(small_integer(i, seed)));
  return values;
}

template <int N, Swizzle kSwizzle>
static void expect_tiles() {
  using Smem = ProductSmem<N, kSwizzle>;
  const Shared<bf16> a = small_integers(64 * 128, 1), b = small_integers(N * 128, 2);
  Shared<float> d(64 * N);
  TensorMap ma, mb;
  EXPECT(simt::make_tensor_map(&ma, {a.device(), Element::kBf16, 128, 64, 256, Smem::kWidth, 64,
                                     kSwizzle}) == simt::kSuccess);
  EXPECT(simt::make_tensor_map(&mb, {b.device(), Element::kBf16, 128, N, 256, Smem::kWidth, N,
                                     kSwizzle}) == simt::kSuccess);
  EXPECT_RUNS((multiply_tiles<N, kSwizzle>), {dim3(1), dim3(128), sizeof(Smem)}, ma, mb, d.data());
  for (size_t i = 0; i < d.size(); i++) {
    int sum = 0;
    for (size_t k = 0; k < 128; k++)
      sum += small_integer(i / N * 128 + k, 1) * small_integer(i % N * 128 + k, 2);
    EXPECT(d[i] == static_cast<float>(sum));
  }
}

MOEPP_TEST(simt_wgmma_multiplies) {
  if (!has_wgmma()) return;
  for_each_schedule([] {
    expect_tiles<64, Swizzle::k128>();
    expect_tiles<128, Swizzle::k128>();
    expect_tiles<192, Swizzle::k128>();
    expect_tiles<256, Swizzle::k128>();
    expect_tiles<128, Swizzle::k64>();
    expect_tiles<128, Swizzle::k32>();
  });
}

// d [64, N] = a [64, 32] b, b [32, N]: a as fragments, b by columns, as attention has weights and
// values.
template <int N, Swizzle kSwizzle>
struct ColumnsSmem {
  alignas(1024) bf16 b[32 * N];
  Mbarrier full;
};
template <int N, Swizzle kSwizzle>
static __global__ void __launch_bounds__(128)
    multiply_columns(const bf16* a, const __grid_constant__ TensorMap b, float* d) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    constexpr int kWidth = ProductSmem<N, kSwizzle>::kWidth;
    auto& s = *simt::smem<ColumnsSmem<N, kSwizzle>>();
    const int t = threadIdx.x, row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
    if (t == 0) {
      simt::mbar_init(&s.full, 1);
      simt::fence_mbarrier_init();
      simt::mbar_arrive_expect_tx(&s.full, sizeof s.b);
      for (int x = 0; x < N; x += kWidth) simt::tma_load(s.b + 32 * x, &b, x, 0, &s.full);
    }
    uint32_t fragments[2][4];
    for (int i = 0; i < 8; i++) {
      const bf16* two = a + (row + i % 2 * 8) * 32 + column + i / 2 * 8;
      fragments[i / 4][i % 4] = static_cast<uint32_t>(simt::bits_of(two[0])) |
                                static_cast<uint32_t>(simt::bits_of(two[1])) << 16;
    }
    __syncthreads();
    simt::mbar_wait(&s.full, 0);
    float acc[N / 2];
    simt::wgmma_fence();
#pragma unroll
    for (int k = 0; k < 32; k += 16) {
      simt::wgmma_bf16_columns<N>(
          acc, fragments[k / 16],
          simt::wgmma_descriptor(s.b + k * kWidth, kSwizzle, 32 * kWidth * 2), k > 0);
    }
    simt::wgmma_commit();
    simt::wgmma_wait<0>();
    for (int i = 0; i < N / 2; i++)
      d[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + column + i % 2] = acc[i];
  }
}

template <int N, Swizzle kSwizzle>
static void expect_columns() {
  const Shared<bf16> b = small_integers(32 * N, 2);
  Shared<bf16> a = small_integers(64 * 32, 1);
  Shared<float> d(64 * N);
  TensorMap map;
  EXPECT(simt::make_tensor_map(&map, {b.device(), Element::kBf16, N, 32, N * 2,
                                      ProductSmem<N, kSwizzle>::kWidth, 32, kSwizzle}) ==
         simt::kSuccess);
  EXPECT_RUNS((multiply_columns<N, kSwizzle>),
              {dim3(1), dim3(128), sizeof(ColumnsSmem<N, kSwizzle>)}, a.data(), map, d.data());
  for (size_t i = 0; i < d.size(); i++) {
    int sum = 0;
    for (size_t k = 0; k < 32; k++)
      sum += small_integer(i / N * 32 + k, 1) * small_integer(k * N + i % N, 2);
    EXPECT(d[i] == static_cast<float>(sum));
  }
}

MOEPP_TEST(simt_wgmma_multiplies_columns) {
  if (!has_wgmma()) return;
  for_each_schedule([] {
    expect_columns<64, Swizzle::k128>();
    expect_columns<128, Swizzle::k128>();
    expect_columns<64, Swizzle::k64>();
    expect_columns<96, Swizzle::k64>();
    expect_columns<128, Swizzle::k64>();
    expect_columns<96, Swizzle::k32>();
  });
}

}  // namespace moepp::simt_test
