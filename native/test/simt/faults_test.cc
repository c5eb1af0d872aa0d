// Faults that the emulation must refuse, and its words. Faults that a sanitizer finds are in
// seeded_bugs_test.cc.
#include "opened_device.h"

namespace moepp::simt_test {

using simt::kFullMask;
using simt::Mbarrier;

// The launch must end with an error that holds `text`, in every schedule.
#define EXPECT_FAULT(text, ...)                                        \
  for_each_schedule([&] {                                              \
    const std::string said = run_kernel(__VA_ARGS__);                  \
    if (said.find(text) == std::string::npos)                          \
      fail(__FILE__, __LINE__, "said '" + said + "', not '" text "'"); \
  })

static const simt::Launch kWarp = {dim3(1), dim3(32), 8192}, kGroup = {dim3(1), dim3(128), 65536};

// Not in the macro, all of whose text counts as one line.
static void multiply_in_two_places() {
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) {
    simt::mma_bf16(d, a, b);
  } else {
    simt::mma_bf16(d, a, b);
  }
}
static void meet_in_two_places() {
  if (threadIdx.x < 64) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

template <int Threads>
static __global__ void __launch_bounds__(Threads) bounded() {}

MOEPP_TEST(simt_faults_of_launches) {
  EXPECT_FAULT("a multiple of 32", +[] {}, {dim3(1), dim3(33)});
  EXPECT_FAULT("up to 227 KiB", +[] {}, {dim3(1), dim3(32), 228 * 1024});
  EXPECT_FAULT("the launch gave 16", +[] { simt::smem<double[3]>(); }, {dim3(1), dim3(32), 16});
  EXPECT_FAULT("asked for 1 x 65536 x 1", +[] {}, {dim3(1, 65536), dim3(32)});
  EXPECT_FAULT("asked for 1 x 1 x 65536", +[] {}, {dim3(1, 1, 65536), dim3(32)});
  EXPECT_FAULT("asked for 2147483648 x 1 x 1", +[] {}, {dim3(1u << 31), dim3(32)});
  EXPECT_FAULT("up to 64 in z", +[] {}, {dim3(1), dim3(1, 1, 96)});
  EXPECT_FAULT("up to 64 in z", +[] {}, {dim3(1), dim3(1u << 31, 2)});
#if SIMT_KNOWS_BOUNDS
  EXPECT_FAULT("allow 96 threads", bounded<96>, {dim3(1), dim3(128)});
  EXPECT_FAULT("allow 992 threads", bounded<992>, {dim3(1), dim3(1024)});
  EXPECT_FAULT("allow 32 threads", bounded<32>, {dim3(1), dim3(32, 2)});
#endif
  EXPECT_RUNS(bounded<96>, {dim3(1), dim3(96)});
  EXPECT_RUNS(bounded<1024>, {dim3(1), dim3(1024)});
}

// The codes that CUDA gives, before anything runs.
MOEPP_TEST(simt_refused_launches) {
  const OtherGpu restore;
  const auto error_of = [](const simt::Launch& how) { return simt::launch(bounded<96>, how); };
  EXPECT(error_of({dim3(1, 65535), dim3(32)}) == simt::kSuccess);
  EXPECT(error_of({dim3(1, 65536), dim3(32)}) == simt::kInvalidConfiguration);
  EXPECT(error_of({dim3(1), dim3(2048)}) == simt::kInvalidConfiguration);
  EXPECT(error_of({dim3(1), dim3(128)}) == simt::kOutOfResources || !SIMT_KNOWS_BOUNDS);
  EXPECT(error_of({dim3(1), dim3(32), 228 * 1024}) == simt::kInvalidValue);
  simt::emu::gpu() = simt::emu::gpu_named("turing");
  EXPECT(error_of({dim3(1), dim3(32), 64 * 1024}) == simt::kSuccess);
  EXPECT(error_of({dim3(1), dim3(32), 65 * 1024}) == simt::kInvalidValue);
}

// A kernel that may start before the one ahead of it has ended must wait for it in every thread,
// those that leave early too.
MOEPP_TEST(simt_faults_of_programmatic_launches) {
  simt::Launch how = {dim3(2), dim3(64)};
  how.programmatic = true;
  EXPECT_FAULT(
      "ends without wait_for_dependencies", +[] {}, how);
  EXPECT_FAULT(
      "ends without wait_for_dependencies",
      +[] {
        if (blockIdx.x == 1 && threadIdx.x >= 32) return;
        simt::wait_for_dependencies();
      },
      how);
  for_each_schedule([&] {
    EXPECT_RUNS(
        +[] { simt::wait_for_dependencies(); }, how);
    EXPECT_RUNS(+[] {}, {dim3(2), dim3(64)});
  });
}

MOEPP_TEST(simt_faults_of_warps) {
  EXPECT_FAULT(
      "divergent warp",
      +[] {
        if (threadIdx.x < 16) {
          __shfl_xor_sync(kFullMask, 1, 1);
        } else {
          __ballot_sync(kFullMask, 1);
        }
      },
      kWarp);
  EXPECT_FAULT(
      "not in the mask", +[] { __ballot_sync(0xffffu, 1); }, kWarp);
  EXPECT_FAULT(
      "deadlock",
      +[] {
        if (threadIdx.x < 16) __shfl_xor_sync(kFullMask, 1, 1);
        __syncthreads();
      },
      kWarp);
  EXPECT_FAULT("needed in all lanes at once", multiply_in_two_places, kWarp);
  EXPECT_FAULT(
      "needs the whole warp",
      +[] {
        float d[4] = {};
        const uint32_t a[4] = {}, b[2] = {};
        if (threadIdx.x < 31) simt::mma_bf16(d, a, b);
      },
      kWarp);
}

MOEPP_TEST(simt_faults_of_barriers) {
  EXPECT_FAULT("divergent __syncthreads", meet_in_two_places, kGroup);
  EXPECT_FAULT(
      "deadlock",
      +[] {
        if (threadIdx.x < 96) simt::barrier_sync(1, 128);
      },
      kGroup);
  EXPECT_FAULT(
      "barriers are 1 to 15", +[] { simt::barrier_sync(16, 128); }, kGroup);
  EXPECT_FAULT(
      "barriers are 1 to 15", +[] { simt::barrier_sync(1, 33); }, kGroup);
  EXPECT_FAULT(
      "a part of warp",
      +[] {
        if (threadIdx.x % 32 < 16) simt::barrier_sync(1, 64);
        __syncwarp();
      },
      kGroup);
  EXPECT_FAULT(
      "threads here",
      +[] {
        if (threadIdx.x < 64) {
          simt::barrier_sync(1, 128);
        } else {
          simt::barrier_sync(1, 96);
        }
      },
      kGroup);
  EXPECT_FAULT("arrives twice",
               +[] {
                 simt::barrier_arrive(1, 128);
                 if (threadIdx.x < 96) simt::barrier_arrive(1, 128);
                 if (threadIdx.x < 32) simt::barrier_arrive(1, 128);
               },
               {dim3(1), dim3(128)});
}

MOEPP_TEST(simt_faults_of_constant_loads) {
  static Shared<uint4> words(2);
  const auto load = [](bool writes) {
    if (threadIdx.x != 0) return;
    if (writes) words.device()[1].w++;
    __ldg(&words.device()[0].x);
    words.device()[0] = simt::load_stream(words.device() + 1);
  };
  EXPECT_FAULT("load_stream: not what the host put there", +load, kWarp, true);
  for_each_schedule([&] { EXPECT_RUNS(+load, kWarp, false); });
  EXPECT_FAULT(
      "__ldg: not what the host put there",
      +[] {
        int own = 1;
        __ldg(&own);
      },
      kWarp);
}

MOEPP_TEST(simt_faults_of_copies) {
  static Shared<unsigned char> global(256);
  EXPECT_FAULT(
      "source is not aligned to 16",
      +[] { simt::cp_async<16>(simt::smem<char>(), global.device() + 8); }, kWarp);
  EXPECT_FAULT(
      "destination is not aligned to 8",
      +[] { simt::cp_async<8>(simt::smem<char>() + 4, global.device()); }, kWarp);
  EXPECT_FAULT(
      "not in dynamic shared memory", +[] { simt::cp_async<4>(global.device(), global.device()); },
      kWarp);
  EXPECT_FAULT(
      "not in dynamic shared memory",
      +[] { simt::cp_async<4>(simt::smem<char>() + 8192, global.device()); }, kWarp);
  EXPECT_FAULT(
      "17 bytes of 16", +[] { simt::cp_async_zfill<16>(simt::smem<char>(), global.device(), 17); },
      kWarp);
  EXPECT_FAULT(
      "not aligned to 16",
      +[] {
        uint32_t r;
        simt::ldmatrix_x1(r, simt::smem<char>() + 8);
      },
      kWarp);
  EXPECT_FAULT(
      "not in dynamic shared memory",
      +[] {
        uint32_t r;
        simt::ldmatrix_x1(r, global.device());
      },
      kWarp);
}

MOEPP_TEST(simt_faults_of_mbarriers) {
  EXPECT_FAULT(
      "not initialised", +[] { simt::mbar_arrive(simt::smem<Mbarrier>()); }, kWarp);
  EXPECT_FAULT(
      "not in shared memory",
      +[] {
        Mbarrier own;
        simt::mbar_init(&own, 1);
      },
      kWarp);
  EXPECT_FAULT(
      "not aligned to 8",
      +[] { simt::mbar_init(reinterpret_cast<Mbarrier*>(simt::smem<char>() + 4), 1); }, kWarp);
  EXPECT_FAULT(
      "deadlock",
      +[] {
        auto* b = simt::smem<Mbarrier>();
        if (threadIdx.x == 0) simt::mbar_init(b, 2);
        __syncthreads();
        if (threadIdx.x == 0) simt::mbar_arrive(b);
        simt::mbar_wait(b, 0);
      },
      kWarp);
  EXPECT_FAULT(
      "more arrivals",
      +[] {
        auto* b = simt::smem<Mbarrier>();
        if (threadIdx.x == 0) simt::mbar_init(b, 8);
        __syncthreads();
        // The bytes keep the phase open.
        if (threadIdx.x == 0) simt::mbar_arrive_expect_tx(b, 16);
        __syncthreads();
        simt::mbar_arrive(b);
      },
      kWarp);
  EXPECT_FAULT(
      "spin for ever",
      +[] {
        const auto* flag = simt::smem<unsigned>();
        while (simt::load_acquire(flag) != 7) {
        }
      },
      kWarp);
}

static simt::TensorMap tile_map(const void* data) {
  simt::TensorMap map;
  EXPECT(simt::make_tensor_map(&map, {data, simt::Element::kBf16, 64, 8, 128, 64, 8,
                                      simt::Swizzle::k128}) == simt::kSuccess);
  return map;
}

MOEPP_TEST(simt_faults_of_tma) {
  Shared<uint16_t> data(512);
  const simt::TensorMap map = tile_map(data.device());
  const auto load = [](simt::TensorMap m, int offset, bool wait, bool fence) {
    auto* b = simt::smem<Mbarrier>();
    if (threadIdx.x == 0) {
      simt::mbar_init(b, 1);
      if (fence) simt::fence_mbarrier_init();
      simt::mbar_arrive_expect_tx(b, 1024);
      simt::tma_load(simt::smem<char>() + offset, &m, 0, 0, b);
    }
    __syncthreads();
    if (wait) simt::mbar_wait(b, 0);
  };
  EXPECT(run_kernel(+load, kWarp, map, 1024, true, true).empty());
  EXPECT_FAULT("not aligned to 128", +load, kWarp, map, 1024 + 64, true, true);
  EXPECT_FAULT("beyond shared memory", +load, kWarp, map, 8192 - 512, true, true);
  EXPECT_FAULT("no fence_mbarrier_init", +load, kWarp, map, 1024, true, false);
  const simt::emu::Options before = simt::emu::options;
  simt::emu::options.async = simt::emu::Async::kLazy;  // the eager copy has landed
  const std::string said = run_kernel(+load, kWarp, map, 1024, false, true);
  EXPECT_MESSAGE(said.find("loads are in flight") != std::string::npos, said);
  simt::emu::options = before;
  EXPECT_FAULT(
      "tma_store_wait<0>",
      +[](simt::TensorMap m) {
        if (threadIdx.x == 0) {
          simt::tma_store(&m, 0, 0, simt::smem<char>());
          simt::tma_store_commit();
        }
      },
      kWarp, map);
  EXPECT_FAULT(
      "multiples of 16",
      +[](simt::TensorMap m) {
        simt::bulk_load(simt::smem<char>() + 1024, m.tile.data, 24, simt::smem<Mbarrier>());
      },
      kWarp, map);

  EXPECT_FAULT(
      "tensor map lies in shared memory",
      +[](simt::TensorMap m) {
        auto* copy = simt::smem<simt::TensorMap>();
        *copy = m;
        simt::tma_load(simt::smem<char>() + 1024, copy, 0, 0, simt::smem<Mbarrier>() + 64);
      },
      kWarp, map);

  simt::TensorMap bad;
  EXPECT(simt::make_tensor_map(&bad, {data.device(), simt::Element::kBf16, 64, 8, uint64_t{1} << 40,
                                      64, 8, simt::Swizzle::k128}) != simt::kSuccess);
  using simt::Element;
  using simt::Swizzle;
  EXPECT(simt::make_tensor_map(&bad, {data.device() + 1, Element::kBf16, 64, 8, 128, 64, 8,
                                      Swizzle::k128}) != simt::kSuccess);
  EXPECT(simt::make_tensor_map(&bad, {data.device(), Element::kBf16, 64, 8, 120, 64, 8,
                                      Swizzle::k128}) != simt::kSuccess);
  EXPECT(simt::make_tensor_map(&bad, {data.device(), Element::kBf16, 64, 8, 128, 128, 8,
                                      Swizzle::k128}) != simt::kSuccess);
  EXPECT(simt::make_tensor_map(&bad, {data.device(), Element::kBf16, 64, 8, 128, 4, 8,
                                      Swizzle::kNone}) != simt::kSuccess);
}

MOEPP_TEST(simt_faults_of_wgmma) {
  const auto multiply = [](bool fence, int offset, bool wait, bool same) {
    auto* tile = simt::smem<unsigned char>();
    float d[32];
    if (fence) simt::wgmma_fence();
    const int mine = same || threadIdx.x < 64 ? offset : offset + 32;
    simt::wgmma_bf16<64>(d, simt::wgmma_descriptor(tile + mine),
                         simt::wgmma_descriptor(tile + 8192), false);
    simt::wgmma_commit();
    if (wait) simt::wgmma_wait<0>();
  };
  EXPECT(run_kernel(+multiply, kGroup, true, 0, true, true).empty());
  EXPECT_FAULT("no wgmma_fence", +multiply, kGroup, false, 0, true, true);
  EXPECT_FAULT("first row of a swizzle", +multiply, kGroup, true, 128, true, true);
  EXPECT_FAULT("cross the end of their row", +multiply, kGroup, true, 112, true, true);
  EXPECT_FAULT("beyond shared memory", +multiply, kGroup, true, 65536 - 4096, true, true);
  EXPECT_FAULT("without wgmma_wait<0>", +multiply, kGroup, true, 0, false, true);
  EXPECT_FAULT("different operands", +multiply, kGroup, true, 0, true, false);
  EXPECT_FAULT("fewer than 128 threads", +multiply, {dim3(1), dim3(64), 65536}, true, 0, true,
               true);
  EXPECT_FAULT(
      "divergent warpgroup",
      +[] {
        if (threadIdx.x < 64) {
          simt::wgmma_fence();
        } else {
          simt::wgmma_commit();
        }
      },
      kGroup);
}

}  // namespace moepp::simt_test
