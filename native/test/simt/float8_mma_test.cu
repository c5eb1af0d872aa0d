// e4m3 products: of a warp, with fragments put together element by element as PTX describes them;
// of a warpgroup. Conversions.
// SASS sm_90a multiply_float8_tiles: QGMMA>=4 UTMALDG !LDL !STL no-spills
#include <algorithm>
#include <cmath>

#include "cuda/simt/float8.h"
#include "device_test.h"
#include "float8_file.h"
#include "seeded_blocks.h"

namespace moepp::simt_test {

// a [16, 32] and b [8, 32], d [16, 8], to which the product is added.
static __global__ void multiply_e4m3(const unsigned char* a, const unsigned char* b, float* d) {
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const auto four = [](const unsigned char* at) {
    return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 |
           static_cast<uint32_t>(at[2]) << 16 | static_cast<uint32_t>(at[3]) << 24;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++) fa[i] = four(a + (g + i % 2 * 8) * 32 + 4 * c + i / 2 * 16);
  for (int i = 0; i < 2; i++) fb[i] = four(b + g * 32 + 4 * c + i * 16);
  float fd[4];
  for (int i = 0; i < 4; i++) fd[i] = static_cast<float>(lane + i);
  simt::mma_e4m3(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + c * 2 + i % 2] = fd[i];
}

// Sums of 32 products of such numbers are exact.
MOEPP_TEST(simt_float8_mma_multiplies) {
  for_each_schedule([] {
    Shared<unsigned char> a(16 * 32), b(8 * 32);
    Shared<float> d(16 * 8);
    const auto code = [](size_t i, size_t seed) {  // 0.25 to 3.75, of either sign
      return static_cast<unsigned char>(0x28 + (i * 7 + seed) % 32 + (i * 5 + seed) % 2 * 0x80);
    };
    for (size_t i = 0; i < a.size(); i++) a[i] = code(i, 1);
    for (size_t i = 0; i < b.size(); i++) b[i] = code(i, 2);
    EXPECT_RUNS(multiply_e4m3, {dim3(1), dim3(32)}, a.data(), b.data(), d.data());
    for (int i = 0; i < 16 * 8; i++) {
      const int row = i / 8, column = i % 8, lane = row % 8 * 4 + column / 2;
      double sum = lane + row / 8 * 2 + column % 2;
      for (int k = 0; k < 32; k++)
        sum += number_of(code(static_cast<size_t>(row * 32 + k), 1)) *
               number_of(code(static_cast<size_t>(column * 32 + k), 2));
      EXPECT(d[static_cast<size_t>(i)] == static_cast<float>(sum));
    }
  });
}

// d [64, N] = a [64, 256] b^T, b [N, 256], two boxes of 128 k.
template <int N>
struct Float8Tiles {
  alignas(1024) unsigned char a[64 * 128];
  alignas(1024) unsigned char b[N * 128];
  simt::Mbarrier full;
};
template <int N>
static __global__ void __launch_bounds__(128)
    multiply_float8_tiles(const __grid_constant__ simt::TensorMap a,
                          const __grid_constant__ simt::TensorMap b, float* d) {
  SIMT_REQUIRES(SIMT_HAS_SM90A) {
    auto& s = *simt::smem<Float8Tiles<N>>();
    const int t = threadIdx.x;
    if (t == 0) {
      simt::mbar_init(&s.full, 1);
      simt::fence_mbarrier_init();
    }
    __syncthreads();
    float acc[N / 2];
    for (int x = 0; x < 256; x += 128) {
      if (t == 0) {
        simt::mbar_arrive_expect_tx(&s.full, sizeof s.a + sizeof s.b);
        simt::tma_load(s.a, &a, x, 0, &s.full);
        simt::tma_load(s.b, &b, x, 0, &s.full);
      }
      simt::mbar_wait(&s.full, x / 128);
      simt::wgmma_fence();
#pragma unroll
      for (int k = 0; k < 128; k += 32) {
        simt::wgmma_e4m3<N>(acc, simt::wgmma_descriptor(s.a + k), simt::wgmma_descriptor(s.b + k),
                            x + k > 0);
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

// Every number that there is; or small integers, whose sums Hopper has exactly, too.
template <int N>
static void expect_float8_tiles(bool integers) {
  Shared<unsigned char> a(64 * 256), b(static_cast<size_t>(N) * 256);
  Shared<float> d(size_t{64} * N);
  const auto fill = [&](Shared<unsigned char>& codes, unsigned seed) {
    for (size_t i = 0; i < codes.size(); i++) {
      const unsigned code = (static_cast<unsigned>(i) * 2654435761u + seed) >> 13 & 255u;
      codes[i] = integers            ? e4m3_at(i, seed)
                 : code % 128 == 127 ? static_cast<unsigned char>(0)
                                     : static_cast<unsigned char>(code);
    }
  };
  fill(a, 1), fill(b, 77);
  simt::TensorMap of_a, of_b;
  constexpr auto kBytes = simt::Element::kU8;
  EXPECT(simt::make_tensor_map(&of_a, {a.device(), kBytes, 256, 64, 256, 128, 64,
                                       simt::Swizzle::k128}) == simt::kSuccess);
  EXPECT(simt::make_tensor_map(&of_b, {b.device(), kBytes, 256, N, 256, 128, N,
                                       simt::Swizzle::k128}) == simt::kSuccess);
  EXPECT_RUNS(multiply_float8_tiles<N>, {dim3(1), dim3(128), sizeof(Float8Tiles<N>)}, of_a, of_b,
              d.data());
  for (size_t i = 0; i < d.size(); i++) {
    double sum = 0.0, largest = 0.0;
    for (size_t k = 0; k < 256; k++) {
      const double product = number_of(a[i / N * 256 + k]) * number_of(b[i % N * 256 + k]);
      sum += product;
      largest = std::max({largest, std::abs(product), std::abs(sum)});
    }
    // as cut_off() of reference_gemm.cc, of 8 times 32 products
    const double tolerance = integers ? 0.0 : 8 * 36 * 0x1p-13 * largest;
    EXPECT(std::abs(static_cast<double>(d[i]) - sum) <= tolerance);
  }
}

MOEPP_TEST(simt_float8_wgmma_multiplies) {
  if (!has_wgmma()) return;
  for_each_schedule([] {
    for (const bool integers : {false, true}) {
      expect_float8_tiles<96>(integers);
      expect_float8_tiles<128>(integers);
    }
  });
}

static __global__ void convert(const float* from, uint32_t* to) {
  to[threadIdx.x] = simt::pack_e4m3(from[2 * threadIdx.x], from[2 * threadIdx.x + 1]);
}

// Each number, the middle between it and the next, and the values beside that.
MOEPP_TEST(simt_float8_conversion_rounds_to_even) {
  std::vector<std::pair<float, int>> cases;
  for (int code = 0; code < 0x7e; code++) {
    const auto low = static_cast<float>(number_of(code)),
               high = static_cast<float>(number_of(code + 1)), middle = (low + high) / 2;
    cases.push_back({low, code});
    cases.push_back({middle, code % 2 == 0 ? code : code + 1});
    cases.push_back({std::nextafter(middle, 0.0f), code});
    cases.push_back({std::nextafter(middle, high), code + 1});
  }
  for (const float large : {448.0f, 463.9f, 464.0f, 480.0f, 1e30f, HUGE_VALF})
    cases.push_back({large, 0x7e});
  while (cases.size() % 32 != 0) cases.push_back({0x1p-149f, 0});
  Shared<float> from(2 * cases.size());
  Shared<uint32_t> to(cases.size());
  for (size_t i = 0; i < cases.size(); i++) {
    from[2 * i] = cases[i].first;
    from[2 * i + 1] = -cases[i].first;
  }
  EXPECT(cases.size() <= 1024);
  EXPECT_RUNS(convert, {dim3(1), dim3(static_cast<unsigned>(cases.size()))}, from.data(),
              to.data());
  for (size_t i = 0; i < cases.size(); i++) {
    const auto code = static_cast<uint32_t>(cases[i].second);
    EXPECT_MESSAGE(to[i] == (code | (code | 0x80) << 8), std::to_string(cases[i].first));
  }
  from[0] = NAN, from[1] = 1.0f;
  EXPECT_RUNS(convert, {dim3(1), dim3(32)}, from.data(), to.data());
  EXPECT(to[0] == (0x7fu | 0x38u << 8));
}

}  // namespace moepp::simt_test
