// The product, with fragments put together element by element as PTX describes them, and from
// ldmatrix.
#include "device_test.h"

namespace moepp::simt_test {

// a [16, 16] and b [8, 16], d [16, 8], to which the product is added.
static __global__ void multiply_bf16(const simt::bf16* a, const simt::bf16* b, float* d) {
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const auto pair = [](const simt::bf16* at) {
    return static_cast<uint32_t>(simt::bits_of(at[0])) | static_cast<uint32_t>(simt::bits_of(at[1]))
                                                             << 16;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++) fa[i] = pair(a + (g + i % 2 * 8) * 16 + 2 * c + i / 2 * 8);
  for (int i = 0; i < 2; i++) fb[i] = pair(b + g * 16 + 2 * c + i * 8);
  float fd[4];
  for (int i = 0; i < 4; i++) fd[i] = static_cast<float>(lane + i);
  simt::mma_bf16(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + c * 2 + i % 2] = fd[i];
}

MOEPP_TEST(simt_mma_multiplies) {
  for_each_schedule([] {
    Shared<simt::bf16> a(16 * 16), b(8 * 16);
    Shared<float> d(16 * 8);
    for (size_t i = 0; i < a.size(); i++)
      a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
    for (size_t i = 0; i < b.size(); i++)
      b[i] = simt::to_bf16(static_cast<float>(small_integer(i, 2)));
    EXPECT_RUNS(multiply_bf16, {dim3(1), dim3(32)}, a.data(), b.data(), d.data());
    for (int i = 0; i < 16 * 8; i++) {
      const int row = i / 8, column = i % 8, lane = row % 8 * 4 + column / 2;
      int sum = lane + row / 8 * 2 + column % 2;
      for (int k = 0; k < 16; k++)
        sum += small_integer(static_cast<size_t>(row * 16 + k), 1) *
               small_integer(static_cast<size_t>(column * 16 + k), 2);
      EXPECT(d[static_cast<size_t>(i)] == static_cast<float>(sum));
    }
  });
}

// d [16, 8] = a [16, 16] b^T with b once as [8, 16] (ldmatrix) and once as [16, 8]
// (ldmatrix_trans): how attention reads V.
static __global__ void multiply_loaded(const simt::bf16* a, const simt::bf16* b,
                                       const simt::bf16* b_transposed, float* d) {
  auto* box = simt::smem<simt::bf16>();
  simt::bf16 *sa = box, *sb = box + 256, *st = box + 384;
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) sa[i] = a[i];
  for (int i = lane; i < 128; i += 32) sb[i] = b[i], st[i] = b_transposed[i];
  __syncwarp();
  uint32_t fa[4], fb[2], ft[2];
  simt::ldmatrix_x4(fa[0], fa[1], fa[2], fa[3], sa + lane % 16 * 16 + lane / 16 * 8);
  simt::ldmatrix_x2(fb[0], fb[1], sb + lane % 8 * 16 + lane / 8 % 2 * 8);
  simt::ldmatrix_x2_trans(ft[0], ft[1], st + lane % 16 * 8);
  float one[4] = {}, other[4] = {};
  simt::mma_bf16(one, fa, fb);
  simt::mma_bf16(other, fa, ft);
  for (int i = 0; i < 4; i++) {
    const int at = (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2;
    d[at] = one[i];
    d[128 + at] = other[i];
  }
}

MOEPP_TEST(simt_ldmatrix_feeds_mma) {
  for_each_schedule([] {
    Shared<simt::bf16> a(256), b(128), b_transposed(128);
    Shared<float> d(256);
    for (size_t i = 0; i < 256; i++) a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
    for (size_t i = 0; i < 128; i++)
      b[i] = b_transposed[i % 16 * 8 + i / 16] =
          simt::to_bf16(static_cast<float>(small_integer(i, 2)));
    EXPECT_RUNS(multiply_loaded, {dim3(1), dim3(32), 512 * 2}, a.data(), b.data(),
                b_transposed.data(), d.data());
    for (size_t i = 0; i < 128; i++) {
      int sum = 0;
      for (size_t k = 0; k < 16; k++)
        sum += small_integer(i / 8 * 16 + k, 1) * small_integer(i % 8 * 16 + k, 2);
      EXPECT(d[i] == static_cast<float>(sum) && d[128 + i] == static_cast<float>(sum));
    }
  });
}

}  // namespace moepp::simt_test
