// cp.async, ldmatrix, and loads with hints.
#include "device_test.h"

namespace moepp::simt_test {

template <int Bytes>
static __global__ void copy_chunks(const unsigned char* in, unsigned char* out, int chunks) {
  auto* box = simt::smem<unsigned char>();
  const int t = threadIdx.x;
  // Chunk t has t % (Bytes + 1) bytes of the source, the rest zero; the last thread passes no
  // address at all.
  if (t < chunks) {
    const int valid = t + 1 == chunks ? 0 : t % (Bytes + 1);
    simt::cp_async_zfill<Bytes>(box + Bytes * t, valid == 0 ? nullptr : in + Bytes * t, valid);
  }
  simt::cp_async_commit();
  simt::cp_async_wait<0>();
  __syncthreads();
  if (t < chunks) {
    for (int i = 0; i < Bytes; i++) out[Bytes * t + i] = box[Bytes * t + Bytes - 1 - i];
  }
}

template <int Bytes>
static void expect_chunks() {
  const int chunks = 50;
  Shared<unsigned char> in(chunks * Bytes), out(chunks * Bytes, 7);
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<unsigned char>(i * 7 + 1);
  EXPECT_RUNS(copy_chunks<Bytes>, {dim3(1), dim3(64), chunks * Bytes}, in.data(), out.data(),
              chunks);
  for (size_t i = 0; i < out.size(); i++) {
    const size_t chunk = i / Bytes, byte = Bytes - 1 - i % Bytes;
    const bool valid = chunk + 1 != chunks && byte < chunk % (Bytes + 1);
    EXPECT(out[i] == (valid ? in[chunk * Bytes + byte] : 0));
  }
}

MOEPP_TEST(simt_cp_async_copies_and_fills_with_zero) {
  for_each_schedule([] {
    expect_chunks<4>();
    expect_chunks<8>();
    expect_chunks<16>();
  });
}

// A ring of three stages: each thread's group i lands before it is used, two later groups are in
// flight.
static __global__ void stream_sum(const int4* in, int steps, int* out) {
  int4* ring = simt::smem<int4>();
  const int t = threadIdx.x, n = blockDim.x;
  auto load = [&](int step) {
    if (step < steps) simt::cp_async<16>(&ring[step % 3 * n + t], &in[step * n + t]);
    simt::cp_async_commit();
  };
  load(0);
  load(1);
  int sum = 0;
  for (int step = 0; step < steps; step++) {
    simt::cp_async_wait<1>();
    __syncthreads();  // everybody's copies of this step, and nobody still reads the stage that is
                      // loaded next
    load(step + 2);
    const int4 v = ring[step % 3 * n + (t + 1) % n];
    sum += v.x + 2 * v.y + 3 * v.z + 4 * v.w;
  }
  out[t] = sum;
}

MOEPP_TEST(simt_cp_async_groups_land_in_order) {
  for_each_schedule([] {
    const size_t n = 64, steps = 7;
    Shared<int4> in(n * steps);
    Shared<int> out(n);
    for (size_t i = 0; i < in.size(); i++)
      in[i] = make_int4(small_integer(i, 1), small_integer(i, 2), small_integer(i, 3),
                        small_integer(i, 4));
    EXPECT_RUNS(stream_sum, {dim3(1), dim3(n), 3 * n * sizeof(int4)}, in.data(),
                static_cast<int>(steps), out.data());
    for (size_t t = 0; t < n; t++) {
      int sum = 0;
      for (size_t step = 0; step < steps; step++) {
        const int4 v = in[step * n + (t + 1) % n];
        sum += v.x + 2 * v.y + 3 * v.z + 4 * v.w;
      }
      EXPECT(out[t] == sum);
    }
  });
}

// Matrix m, row r, column c holds 64 m + 8 r + c; rows are 24 elements apart.
static __global__ void load_matrices(uint32_t* out) {
  auto* box = simt::smem<uint16_t>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) box[i / 8 * 24 + i % 8] = static_cast<uint16_t>(i);
  __syncthreads();
  const uint16_t* row = box + lane * 24;
  uint32_t* o = out + 14 * lane;
  simt::ldmatrix_x1(o[0], row);
  simt::ldmatrix_x1_trans(o[1], row);
  simt::ldmatrix_x2(o[2], o[3], row);
  simt::ldmatrix_x2_trans(o[4], o[5], row);
  simt::ldmatrix_x4(o[6], o[7], o[8], o[9], row);
  simt::ldmatrix_x4_trans(o[10], o[11], o[12], o[13], row);
}

MOEPP_TEST(simt_ldmatrix_gives_each_lane_its_elements) {
  for_each_schedule([] {
    Shared<uint32_t> out(14 * 32);
    EXPECT_RUNS(load_matrices, {dim3(1), dim3(32), 32 * 24 * 2}, out.data());
    const unsigned matrix[14] = {0, 0, 0, 1, 0, 1, 0, 1, 2, 3, 0, 1, 2, 3};
    const bool transposed[14] = {false, true,  false, false, true, true, false,
                                 false, false, false, true,  true, true, true};
    for (unsigned i = 0; i < 14 * 32; i++) {
      const unsigned lane = i / 14, k = i % 14, row = lane / 4, column = 2 * (lane % 4);
      const unsigned first = 64 * matrix[k] + (transposed[k] ? 8 * column + row : 8 * row + column);
      EXPECT(out[i] == (first | (first + (transposed[k] ? 8 : 1)) << 16));
    }
  });
}

static __global__ void load_hinted(const uint4* in, uint4* out) {
  const int t = threadIdx.x;
  simt::prefetch_l2(in + t);
  simt::prefetch_l2_bulk(in, 512);
  uint4 a = simt::load_stream(in + t);
  const uint4 b = simt::load_stream(in + t, simt::l2_evict_first()),
              c = simt::load_stream(in + t, simt::l2_evict_last());
  a.x += b.x, a.y += c.y, a.z += __ldg(&in[t].z), a.w += __ldcg(&in[t].w);
  __stcs(&out[t].x, a.x), out[t].y = a.y, out[t].z = a.z, out[t].w = a.w;
}

MOEPP_TEST(simt_hints_change_nothing) {
  Shared<uint4> in(32), out(32);
  for (unsigned i = 0; i < 32; i++) in[i] = make_uint4(i, i + 1, i + 2, i + 3);
  EXPECT_RUNS(load_hinted, {dim3(1), dim3(32)}, in.data(), out.data());
  for (size_t i = 0; i < 32; i++)
    EXPECT(out[i].x == 2 * in[i].x && out[i].y == 2 * in[i].y && out[i].z == 2 * in[i].z &&
           out[i].w == 2 * in[i].w);
}

}  // namespace moepp::simt_test
