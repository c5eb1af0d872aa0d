// Loads past L1 move whole 32-byte sectors. An instruction that uses half of each moves twice the
// bytes, and another one moves the other halves again.
#include <set>
#include <tuple>

#include "cuda/kernels/grouped_gemm/gemm.h"
#include "cuda/weight_layout.h"
#include "device_test.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

namespace emu = simt::emu;

// The kernel's loads, as bytes that they ask for and bytes of the sectors that they move.
struct Traffic {
  size_t asked, moved;
};
static Traffic traffic_of(const cuda::Gemm& g, cuda::GemmKernel kernel, size_t most_loads) {
  std::vector<emu::Load> loads(most_loads);
  emu::load_log = {loads.data(), loads.size(), 0};
  cuda::CudaQueue queue(nullptr, 3, 90);
  const simt::Error error = run_on_device([&] {
    cuda::run_gemm(g, kernel, queue);
    return queue.take_error();
  });
  EXPECT_MESSAGE(error == simt::kSuccess, simt::error_text(error));
  const size_t count = emu::load_log.count;
  emu::load_log = {};
  std::set<std::tuple<uintptr_t, unsigned, unsigned, unsigned>> sectors;
  for (size_t i = 0; i < count; i++) {
    const emu::Load& load = loads[i];
    sectors.insert({load.address / 32, load.block, load.warp, load.number});
  }
  return {16 * count, 32 * sectors.size()};
}

static void expect_each_sector_once(DType x_dtype) {
  // Two groups, one of them more than a tile; two tiles of columns, whichever their width.
  constexpr int kRows = 150, kInputs = 192, kOutputs = 384, kAcross = 2;
  Shared<float> x(kRows * kInputs, 1.0f), out(kRows * kOutputs);  // as bf16, half of x is used
  Shared<int32_t> offsets(3), order(kRows);
  offsets[1] = 131, offsets[2] = kRows;
  for (int r = 0; r < kRows; r++) order[static_cast<size_t>(r)] = r * 7 % kRows;
  const Shared<unsigned char> weight(
      static_cast<size_t>(cuda::weight_bytes(DType::kBf16, Layout::kMatrix, 2, kOutputs, kInputs)));
  cuda::Gemm g = {};
  g.x = x.device(), g.token_order = order.device(), g.offsets = offsets.device();
  g.weight = weight.device(), g.out = {out.device(), false};
  g.picks_per_row = 1, g.groups = 2, g.rows = kRows, g.k = g.pitch = kInputs;
  g.weight_rows = g.columns = kOutputs;
  g.scale = 1.0f, g.dtype = DType::kBf16, g.x_dtype = x_dtype;
  const auto asked = static_cast<size_t>(kAcross * kRows * kInputs * dtype_size(x_dtype));
  const Traffic traffic = traffic_of(g, cuda::GemmKernel::kSm90, 2 * asked / 16);
  EXPECT_MESSAGE(traffic.asked == asked && traffic.moved == asked,
                 std::to_string(traffic.asked) + " bytes of " + dtype_name(x_dtype) +
                     " asked for, " + std::to_string(traffic.moved) + " moved, expected " +
                     std::to_string(asked));
}

// An x of bf16 moves half the bytes.
MOEPP_TEST(simt_sm90_moves_each_sector_of_x_once) {
  expect_each_sector_once(DType::kF32);
  expect_each_sector_once(DType::kBf16);
}

}  // namespace moepp::simt_test
#endif
