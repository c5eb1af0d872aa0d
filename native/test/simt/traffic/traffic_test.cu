// Kernels whose traffic is known by hand: one warp a block, where nothing else is said.
#include "../device_test.h"
#include "test/emulator/traffic/traffic.h"

namespace moepp::simt_test {

namespace emu = simt::emu;
using simt::Mbarrier;
using simt::TensorMap;

// Aligned to 256 bytes; not set.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) {
    if (simt::allocate(&data_, bytes) != simt::kSuccess) throw std::bad_alloc();
  }
  ~DeviceBytes() { simt::release(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  float* floats() const { return static_cast<float*>(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

template <class... Parameters, class... Arguments>
static void run(void (*kernel)(Parameters...), const simt::Launch& how, Arguments... arguments) {
  EXPECT(simt::launch(kernel, how, arguments...) == simt::kSuccess);
  const simt::Error error = simt::synchronize(nullptr);
  EXPECT_MESSAGE(error == simt::kSuccess, simt::error_text(error));
}
// Of one launch.
template <class... Parameters, class... Arguments>
static emu::Traffic traffic_of(void (*kernel)(Parameters...), const simt::Launch& how,
                               Arguments... arguments) {
  emu::count_traffic();
  run(kernel, how, arguments...);
  emu::stop_counting();
  return emu::traffic();
}

static void expect_moved(int line, const char* what, const emu::Moved& moved, uint64_t read,
                         uint64_t written) {
  if (moved.read == read && moved.written == written) return;
  test::fail(__FILE__, line,
             std::string(what) + ": " + std::to_string(moved.read) + " bytes read, " +
                 std::to_string(moved.written) + " written, expected " + std::to_string(read) +
                 " and " + std::to_string(written));
}
#define EXPECT_MOVED(moved, ...) expect_moved(__LINE__, #moved, moved, __VA_ARGS__)

static __global__ void copy_words(const float* x, float* y, int pitch, int offset) {
  y[threadIdx.x] = x[static_cast<int>(threadIdx.x) * pitch + offset];
}

MOEPP_TEST(traffic_of_loads_and_stores) {
  const DeviceBytes x(2048), y(2048);
  const auto copy = [&](int pitch, int offset) {
    return traffic_of(copy_words, {1, 32}, x.floats(), y.floats(), pitch, offset);
  };
  const emu::Traffic whole = copy(1, 0), misaligned = copy(1, 1), strided = copy(8, 0),
                     broadcast = copy(0, 5);
  EXPECT(whole.launches == 1);
  EXPECT_MOVED(whole.asked, 128, 128);
  EXPECT_MOVED(whole.requests, 128, 128);
  EXPECT_MOVED(whole.memory, 128, 128);
  EXPECT_MOVED(misaligned.asked, 128, 128);
  EXPECT_MOVED(misaligned.requests, 160, 128);
  EXPECT_MOVED(strided.asked, 128, 128);
  EXPECT_MOVED(strided.requests, 1024, 128);
  EXPECT_MOVED(strided.memory, 1024, 128);
  EXPECT_MOVED(broadcast.asked, 128, 128);
  EXPECT_MOVED(broadcast.requests, 32, 128);
}

static __global__ void copy_vectors(const float4* x, float4* y, bool swaps) {
  float4 v = x[threadIdx.x];
  v.x += v.w;
  y[threadIdx.x] = v;
  y[threadIdx.x + 32] = swaps ? make_float4(v.y, v.x, v.w, v.z) : v;
}

// A struct is one access, and its sectors are asked for once.
MOEPP_TEST(traffic_of_vectors) {
  const DeviceBytes x(512), y(1024);
  const emu::Traffic t = traffic_of(copy_vectors, {1, 32}, x.as<float4>(), y.as<float4>(), true);
  EXPECT_MOVED(t.asked, 512, 1024);
  EXPECT_MOVED(t.requests, 512, 1024);
}

static __global__ void sum_rows(const float* x, float* y) {
  float sum = 0.0f;
  for (int i = 0; i < 8; i++) sum += x[threadIdx.x * 8 + i];
  y[threadIdx.x] = sum;
}

// Each of eight instructions asks for a part of all sectors. L1 has them from the second on.
MOEPP_TEST(traffic_that_l1_saves) {
  const DeviceBytes x(1024), y(128);
  const emu::Traffic t = traffic_of(sum_rows, {2, 32}, x.floats(), y.floats());
  EXPECT_MOVED(t.asked, 2 * 1024, 2 * 128);
  EXPECT_MOVED(t.requests, 2 * 8 * 1024, 2 * 128);
  EXPECT_MOVED(t.l2, 2 * 1024, 2 * 128);
  EXPECT_MOVED(t.kernels, 1024, 128);
}

template <bool PastL1>
static __global__ void load_halves(const uint4* x, uint4* y) {
  for (unsigned i = 0; i < 2; i++) {
    const uint4* p = x + 2 * threadIdx.x + i;
    y[32 * i + threadIdx.x] = PastL1 ? simt::load_stream(p) : *p;
  }
}

// An instruction that uses half of each sector moves twice the bytes, and another one moves the
// other halves again, unless L1 keeps them.
MOEPP_TEST(traffic_of_half_sectors) {
  const DeviceBytes x(1024), y(1024);
  EXPECT(simt::clear(x.floats(), 1024, nullptr) == simt::kSuccess);
  const emu::Traffic past = traffic_of(load_halves<true>, {1, 32}, x.as<uint4>(), y.as<uint4>()),
                     by = traffic_of(load_halves<false>, {1, 32}, x.as<uint4>(), y.as<uint4>());
  EXPECT_MOVED(past.asked, 1024, 1024);
  EXPECT_MOVED(past.requests, 2048, 1024);
  EXPECT_MOVED(past.l2, 2048, 1024);
  EXPECT_MOVED(past.memory, 1024, 1024);
  EXPECT_MOVED(by.requests, 2048, 1024);
  EXPECT_MOVED(by.l2, 1024, 1024);
}

// Half of the lanes load in each round, the same words.
static __global__ void load_in_turns(const float* x, float* y, bool meets) {
  float sum = 0.0f;
  for (unsigned i = 0; i < 2; i++) {
    if (threadIdx.x % 2 == i) sum += x[threadIdx.x / 2];
    if (meets) __syncwarp();
  }
  y[threadIdx.x] = sum;
}

// Lanes that skip an instruction fall in step again where the warp meets.
MOEPP_TEST(traffic_of_lanes_in_turns) {
  const DeviceBytes x(64), y(128);
  EXPECT_MOVED(traffic_of(load_in_turns, {1, 32}, x.floats(), y.floats(), true).requests, 128, 128);
  EXPECT_MOVED(traffic_of(load_in_turns, {1, 32}, x.floats(), y.floats(), false).requests, 64, 128);
}

struct Staging {
  unsigned char bytes[2][1024];
  Mbarrier full;
};

template <int Bytes>
static __global__ void copy_async(const unsigned char* x, int lanes) {
  auto& s = *simt::smem<Staging>();
  for (int i = 0; i < 2; i++) {
    const int at = static_cast<int>(threadIdx.x) * Bytes;
    const bool inside = static_cast<int>(threadIdx.x) < lanes;
    simt::cp_async_zfill<Bytes>(s.bytes[i] + at, inside ? x + at : nullptr, inside ? Bytes : 0);
  }
  simt::cp_async_commit();
  simt::cp_async_wait<0>();
}

// The same bytes twice: copies of 16 bytes go past L1. Zeros are not read.
MOEPP_TEST(traffic_of_asynchronous_copies) {
  const DeviceBytes x(512);
  const simt::Launch how = {1, 32, sizeof(Staging)};
  const auto* from = x.as<const unsigned char>();
  const emu::Traffic sixteen = traffic_of(copy_async<16>, how, from, 32),
                     some = traffic_of(copy_async<16>, how, from, 3),
                     four = traffic_of(copy_async<4>, how, from, 32);
  EXPECT_MOVED(sixteen.asked, 1024, 0);
  EXPECT_MOVED(sixteen.requests, 1024, 0);
  EXPECT_MOVED(sixteen.l2, 1024, 0);
  EXPECT_MOVED(sixteen.memory, 512, 0);
  EXPECT_MOVED(some.asked, 96, 0);
  EXPECT_MOVED(some.requests, 128, 0);
  EXPECT_MOVED(four.requests, 256, 0);
  EXPECT_MOVED(four.l2, 128, 0);
}

static __global__ void move_box(const __grid_constant__ TensorMap map, const float* x, int y) {
  auto& s = *simt::smem<Staging>();
  if (threadIdx.x == 0) {
    simt::mbar_init(&s.full, 1);
    simt::fence_mbarrier_init();
    simt::mbar_arrive_expect_tx(&s.full, 1024 + 64);
    simt::tma_load(s.bytes[0], &map, 0, y, &s.full);
    simt::bulk_load(s.bytes[1], x, 64, &s.full);
    simt::mbar_wait(&s.full, 0);
    simt::tma_store(&map, 0, 0, s.bytes[0]);
    simt::tma_store_commit();
    simt::tma_store_wait<0>();
  }
}

// A box of 64 x 8 bf16 over a matrix of 40 columns, 80 bytes of a pitch of 96; half of its rows lie
// below the last one.
MOEPP_TEST(traffic_of_boxes) {
  const DeviceBytes matrix(12 * 96), x(64);
  TensorMap map;
  const simt::TileMap tile = {matrix.floats(),    simt::Element::kBf16, 40, 12, 96, 64, 8,
                              simt::Swizzle::k128};
  EXPECT(simt::make_tensor_map(&map, tile) == simt::kSuccess);
  const emu::Traffic t = traffic_of(move_box, {1, 32, sizeof(Staging)}, map, x.floats(), 8);
  EXPECT_MOVED(t.asked, 4 * 80 + 64, 8 * 80);
  EXPECT_MOVED(t.requests, 4 * 96 + 64, 8 * 96);
  EXPECT_MOVED(t.l2, 4 * 96 + 64, 8 * 96);
  EXPECT_MOVED(t.memory, 4 * 96 + 64, 8 * 96);
}

static __global__ void count_up(int* counter, unsigned* flag) {
  atomicAdd(counter, 1);
  if (threadIdx.x == 0) simt::store_release(flag, simt::atomic_add_acq_rel(flag, 1));
}

// One request of a warp, whatever the emulation makes of it.
MOEPP_TEST(traffic_of_atomics) {
  const DeviceBytes counter(4), flag(4);
  const emu::Traffic t = traffic_of(count_up, {1, 32}, counter.as<int>(), flag.as<unsigned>());
  EXPECT_MOVED(t.asked, 0, 128 + 8);
  EXPECT_MOVED(t.requests, 0, 32 + 64);
  EXPECT_MOVED(t.memory, 64, 64);
}

static __global__ void stay_within(const float* x, float* y, int shift) {
  auto& s = *simt::smem<Staging>();
  float own[32];
  auto* shared = reinterpret_cast<float*>(s.bytes);
  for (int i = 0; i < 32; i++) own[i] = shared[threadIdx.x] = static_cast<float>(i);
  y[threadIdx.x] = own[(static_cast<int>(threadIdx.x) + shift) % 32] + shared[threadIdx.x];
}

MOEPP_TEST(traffic_is_of_device_memory_alone) {
  const DeviceBytes y(128);
  const float host[32] = {};
  const emu::Traffic t = traffic_of(stay_within, {1, 32, sizeof(Staging)}, &host[0], y.floats(), 3);
  EXPECT_MOVED(t.asked, 0, 128);
}

static __global__ void ask_l2(const char* x) {
  simt::prefetch_l2(x + 128 * threadIdx.x + 7);
  if (threadIdx.x == 0) simt::prefetch_l2_bulk(x + 4096, 64);
}

MOEPP_TEST(traffic_of_prefetches) {
  const DeviceBytes x(4096 + 64);
  const emu::Traffic t = traffic_of(ask_l2, {1, 32}, x.as<const char>());
  EXPECT_MOVED(t.asked, 0, 0);
  EXPECT_MOVED(t.l2, 0, 0);
  EXPECT_MOVED(t.memory, 4096 + 64, 0);
}

// The second kernel reads what the first one wrote; L2 keeps all of it, or little.
MOEPP_TEST(traffic_of_two_kernels) {
  const DeviceBytes x(4096), y(4096), z(4096);
  const auto both = [&](size_t l2_bytes) {
    emu::count_traffic(l2_bytes);
    run(copy_words, {1, 1024}, x.floats(), y.floats(), 1, 0);
    run(copy_words, {1, 1024}, y.floats(), z.floats(), 1, 0);
    emu::stop_counting();
    return emu::traffic();
  };
  const emu::Traffic large = both(1 << 20), little = both(1024);
  EXPECT(large.launches == 2);
  EXPECT_MOVED(large.l2, 8192, 8192);
  EXPECT_MOVED(large.kernels, 8192, 8192);
  EXPECT_MOVED(large.step, 4096, 8192);
  EXPECT_MOVED(large.memory, 4096, 8192);
  EXPECT_MOVED(little.step, 4096, 8192);
  EXPECT_MOVED(little.memory, 8192, 8192);
  const emu::Traffic rest = emu::difference(little, large);
  EXPECT(rest.launches == 0);
  EXPECT_MOVED(rest.memory, 4096, 0);
}

}  // namespace moepp::simt_test
