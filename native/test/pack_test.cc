// Panels against their description in panels.h, element by element, from every source dtype, with
// strides and padding.
#include <vector>

#include "compare.h"
#include "cpu/pack.h"
#include "test.h"

namespace moepp::test {

using namespace moepp::cpu;

// A stored weight [rows, k] in one dtype, row-major or transposed, at an odd byte address as a file
// may have it.
struct Stored {
  DType dtype;
  int64_t rows, k;
  bool transposed;
  std::vector<std::byte> bytes;

  Stored(DType dtype, int64_t rows, int64_t k, bool transposed)
      : dtype(dtype), rows(rows), k(k), transposed(transposed) {
    bytes.resize(static_cast<size_t>(rows * k * dtype_size(dtype)) + 1);
    std::vector<float> values(static_cast<size_t>(rows * k));
    fill(values.data(), rows * k, 7);
    for (int64_t i = 0; i < rows * k; i++) {
      const float value = values[static_cast<size_t>(i)];
      // Any 16 bits are a bf16 or an f16: subnormals, infinities and NaNs are among them.
      uint16_t half = static_cast<uint16_t>(value * 32768.0f);
      if (dtype == DType::kF32) {
        std::memcpy(data() + 4 * i, &value, 4);
      } else {
        std::memcpy(data() + 2 * i, &half, 2);
      }
    }
  }
  std::byte* data() { return bytes.data() + 1; }
  PackRow row(int64_t r) {
    if (r < 0) return {};
    return {data() + r * (transposed ? 1 : k) * dtype_size(dtype), dtype, transposed ? rows : 1};
  }
  float value(int64_t r, int64_t at) {
    const std::byte* from = data() + (transposed ? at * rows + r : r * k + at) * dtype_size(dtype);
    float f;
    uint16_t half;
    if (dtype == DType::kF32) return std::memcpy(&f, from, 4), f;
    std::memcpy(&half, from, 2);
    return dtype == DType::kBf16 ? bf16_to_f32(half) : f16_to_f32(half);
  }
};

static bool same(float actual, float expected) {
  return (std::isnan(actual) && std::isnan(expected)) || same_bits(&actual, &expected, 4);
}

static void check_pack(DType from, DType to, Layout layout, int64_t rows, int64_t k,
                       bool transposed) {
  Stored stored(from, rows, k, transposed);
  const int64_t bytes = panel_bytes(to, k);
  int64_t wrong = 0;
  for (int64_t panel = 0; panel < panel_count(layout, rows); panel++) {
    PackRow lanes[kPanelRows];
    for (int64_t lane = 0; lane < kPanelRows; lane++)
      lanes[lane] = stored.row(panel_row(layout, rows, panel, lane));
    Guarded<uint32_t> packed(bytes / 4);
    pack_panel(reinterpret_cast<std::byte*>(packed.data()), to, lanes, k);
    EXPECT(packed.margins_intact());
    const int64_t padded = to == DType::kF32 ? k : (k + 1) / 2 * 2;
    for (int64_t lane = 0; lane < kPanelRows; lane++) {
      const int64_t row = panel_row(layout, rows, panel, lane);
      for (int64_t at = 0; at < padded; at++) {
        const float source = row < 0 || at >= k ? 0.0f : stored.value(row, at);
        const int64_t index = panel_index(to, lane, at);
        if (to == DType::kF32) {
          wrong += same(reinterpret_cast<float*>(packed.data())[index], source) ? 0 : 1;
        } else {
          const float actual = bf16_to_f32(reinterpret_cast<uint16_t*>(packed.data())[index]);
          wrong += same(actual, bf16_to_f32(f32_to_bf16(source))) ? 0 : 1;
        }
      }
    }
  }
  EXPECT_MESSAGE(wrong == 0, std::string(dtype_name(from)) + " to " + dtype_name(to) + " [" +
                                 std::to_string(rows) + ", " + std::to_string(k) +
                                 "]: " + std::to_string(wrong) + " elements are wrong");
}

MOEPP_TEST(pack_panel) {
  for (DType from : {DType::kF32, DType::kBf16, DType::kF16}) {
    for (DType to : {DType::kF32, DType::kBf16}) {
      for (bool transposed : {false, true}) {
        for (int64_t k : {1, 2, 3, 4, 7, 8, 60, 127, 129, 260, 1027}) {
          for (int64_t rows : {1, 31, 32, 33, 163})
            check_pack(from, to, Layout::kMatrix, rows, k, transposed);
          for (int64_t rows : {2, 32, 64, 74})
            check_pack(from, to, Layout::kGateUp, rows, k, transposed);
        }
      }
    }
  }
}

}  // namespace moepp::test
