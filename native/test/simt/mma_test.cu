// The products, with fragments put together element by element as PTX describes them, and from
// ldmatrix.
#include "device_test.h"

namespace moepp::simt_test {

// a [16, k] and b [8, k] as whole elements of Bytes each, d [16, 8].
template <class Value, int Bytes, class Mma>
SIMT_DEVICE void multiply(const unsigned char* a, const unsigned char* b, Value* d, Mma mma) {
  constexpr int kParts = 4 / Bytes, kRow = 8 * 4;  // bytes: 8 registers' worth along k
  const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++) {
    fa[i] = 0;
    for (int p = 0; p < kParts; p++) {
      const int row = g + (i & 1) * 8, k = c * kParts + (i >> 1) * 4 * kParts + p;
      for (int byte = 0; byte < Bytes; byte++)
        fa[i] |= static_cast<uint32_t>(a[row * kRow + k * Bytes + byte])
                 << (8 * (p * Bytes + byte));
    }
  }
  for (int i = 0; i < 2; i++) {
    fb[i] = 0;
    for (int p = 0; p < kParts; p++) {
      const int k = c * kParts + i * 4 * kParts + p;
      for (int byte = 0; byte < Bytes; byte++)
        fb[i] |= static_cast<uint32_t>(b[g * kRow + k * Bytes + byte]) << (8 * (p * Bytes + byte));
    }
  }
  Value fd[4];
  for (int i = 0; i < 4; i++) fd[i] = static_cast<Value>(lane + i);  // products are added to this
  mma(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + c * 2 + i % 2] = fd[i];
}

static __global__ void multiply_bf16(const unsigned char* a, const unsigned char* b, float* d) {
  multiply<float, 2>(a, b, d, [](float(&fd)[4], const uint32_t(&fa)[4], const uint32_t(&fb)[2]) {
    simt::mma_bf16(fd, fa, fb);
  });
}
static __global__ void multiply_f16(const unsigned char* a, const unsigned char* b, float* d) {
  multiply<float, 2>(a, b, d, [](float(&fd)[4], const uint32_t(&fa)[4], const uint32_t(&fb)[2]) {
    simt::mma_f16(fd, fa, fb);
  });
}
static __global__ void multiply_tf32(const unsigned char* a, const unsigned char* b, float* d) {
  multiply<float, 4>(a, b, d, [](float(&fd)[4], const uint32_t(&fa)[4], const uint32_t(&fb)[2]) {
    simt::mma_tf32(fd, fa, fb);
  });
}
static __global__ void multiply_s8(const unsigned char* a, const unsigned char* b, int* d) {
  multiply<int, 1>(a, b, d, [](int(&fd)[4], const uint32_t(&fa)[4], const uint32_t(&fb)[2]) {
    simt::mma_s8(fd, fa, fb);
  });
}

template <class Element, class Value, class Convert>
static void expect_product(void (*kernel)(const unsigned char*, const unsigned char*, Value*),
                           Convert convert) {
  constexpr int kDepth = 32 / sizeof(Element);
  Shared<Element> a(16 * kDepth), b(8 * kDepth);
  Shared<Value> d(16 * 8);
  for (size_t i = 0; i < a.size(); i++) a[i] = convert(small_integer(i, 1));
  for (size_t i = 0; i < b.size(); i++) b[i] = convert(small_integer(i, 2));
  EXPECT_RUNS(kernel, {dim3(1), dim3(32)}, reinterpret_cast<const unsigned char*>(a.data()),
              reinterpret_cast<const unsigned char*>(b.data()), d.data());
  for (int i = 0; i < 16 * 8; i++) {
    const int row = i / 8, column = i % 8, lane = row % 8 * 4 + column / 2;
    int sum = lane + row / 8 * 2 + column % 2;
    for (int k = 0; k < kDepth; k++)
      sum += small_integer(static_cast<size_t>(row * kDepth + k), 1) *
             small_integer(static_cast<size_t>(column * kDepth + k), 2);
    EXPECT(d[static_cast<size_t>(i)] == static_cast<Value>(sum));
  }
}

MOEPP_TEST(simt_mma_multiplies) {
  for_each_schedule([] {
    expect_product<simt::bf16>(multiply_bf16,
                               [](int x) { return simt::to_bf16(static_cast<float>(x)); });
    expect_product<simt::f16>(multiply_f16,
                              [](int x) { return simt::to_f16(static_cast<float>(x)); });
    expect_product<float>(multiply_tf32, [](int x) { return static_cast<float>(x); });
    expect_product<int8_t>(multiply_s8, [](int x) { return static_cast<int8_t>(x); });
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
