// The arrays of the tests themselves (device_memory.h).
#include "device_test.h"

namespace moepp::simt_test {

static __global__ void add_to(const int* in, int n, int* out) {
  if (static_cast<int>(threadIdx.x) < n) out[threadIdx.x] += in[threadIdx.x];
}
constexpr simt::Launch kOneWarp = {dim3(1), dim3(32)};

// From where the argument points on; what no kernel writes stays as it is, with moved arrays, too.
MOEPP_TEST(simt_arrays_reach_kernels_and_come_back) {
  Shared<int> in(40, 1), out(3, 7);
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<int>(i);
  EXPECT_RUNS(add_to, kOneWarp, in.data(), 3, out.data());
  for (size_t i = 0; i < 3; i++) EXPECT(out[i] == 7 + static_cast<int>(i));
  out = Shared<int>(40, 100);
  EXPECT_RUNS(add_to, kOneWarp, in.data() + 30, 10, out.data() + 20);
  in[30] = 5;
  EXPECT_RUNS(add_to, kOneWarp, in.device() + 30, 1, out.device());
  for (size_t i = 0; i < 40; i++) {
    const int added = i == 0 ? 5 : i >= 20 && i < 30 ? static_cast<int>(i) + 10 : 0;
    EXPECT(out[i] == 100 + added);
  }
}

// Arguments of no elements are addresses, too; null stays null.
MOEPP_TEST(simt_arrays_of_nothing) {
  Shared<int> nothing(0), one(1);
  EXPECT(nothing.size() == 0 && nothing.device() != nullptr);
  EXPECT(on_device(nothing.data()) == nothing.device());
  EXPECT(on_device(one.data() + 1) == one.device() + 1);
  EXPECT(on_device(static_cast<int*>(nullptr)) == nullptr && on_device(3) == 3);
  EXPECT_RUNS(add_to, kOneWarp, nothing.data(), 0, nothing.data());
}

// The message of body's exception, or nothing.
template <class Body>
static std::string thrown(const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

MOEPP_TEST(simt_arrays_refuse_other_memory) {
  std::vector<int> plain(32);
  EXPECT(thrown([&] { on_device(plain.data()); }) ==
         "a kernel's argument points to no array of the tests");
}

#if SIMT_EMULATED
// A kernel that is handed the host's addresses reads junk, and must not write there.
MOEPP_TEST(simt_arrays_have_two_copies) {
  Shared<int> in(32, 1), out(32, 10);
  const auto run = [&](const int* from, int* to) {
    return run_on_device([&] { return simt::launch(add_to, kOneWarp, from, 32, to); });
  };
  EXPECT(run(in.device(), out.device()) == simt::kSuccess && out[31] == 11);
  EXPECT(run(in.data(), out.device()) == simt::kSuccess && out[31] != 12);
  EXPECT(*out.device() != out[0]);
  EXPECT(thrown([&] { run(in.device(), out.data()); }) ==
         "a kernel wrote to the host's copy of an array");
}

MOEPP_TEST(simt_arrays_without_memory) {
  const size_t before = simt::emu::gpu().memory_bytes;
  simt::emu::gpu().memory_bytes = 1000;
  const std::string text = thrown([] { Shared<float> fits(250), too_large(251); });
  simt::emu::gpu().memory_bytes = before;
  EXPECT_MESSAGE(text == "no device memory for an array of 1004 bytes: out of memory", text);
}
#endif

}  // namespace moepp::simt_test
