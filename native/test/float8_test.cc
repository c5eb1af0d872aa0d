// Stored e4m3 weights: every code, ragged blocks, what files may not hold.
#include "float8_file.h"

#include "cpu/pack.h"
#include "test.h"
#include "weights/panels.h"

namespace moepp::test {

MOEPP_TEST(float8_has_every_number) {
  for (int code = 0; code < 256; code++) {
    const auto byte = static_cast<uint8_t>(code);
    EXPECT(is_e4m3_nan(byte) == (code == 0x7f || code == 0xff));
    if (is_e4m3_nan(byte)) continue;
    EXPECT(e4m3_to_f32(byte) == static_cast<float>(number_of(code)));
    EXPECT(std::signbit(e4m3_to_f32(byte)) == (code >= 0x80));
  }
  EXPECT(e4m3_to_f32(0x7e) == 448.0f && e4m3_to_f32(0x01) == 0x1p-9f);
}

static void check_loaded(const Shape& shape, DType scale_dtype, DType held) {
  Float8File file(shape, scale_dtype);
  file.write();
  const WeightSpec spec = file.spec(held);
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(2, "scalar", &device).ok());
  const int64_t inputs = shape.back(), rows = shape[shape.size() - 2],
                groups = elements_of(shape) / rows / inputs;
  int64_t wrong = 0;
  for (const Layout layout : {Layout::kRows, Layout::kMatrix}) {
    std::vector<std::byte> data(static_cast<size_t>(device->weight_bytes(spec, layout)));
    EXPECT(device->load_weight(spec, layout, data.data(), {}).ok());
    for (int64_t g = 0; g < groups; g++) {
      for (int64_t n = 0; n < rows; n++) {
        for (int64_t k = 0; k < inputs; k++) {
          const int64_t panel = g * panel_count(layout, rows) + n / kPanelRows;
          const int64_t at = layout == Layout::kRows
                                 ? (g * rows + n) * inputs + k
                                 : panel * panel_bytes(held, inputs) / dtype_size(held) +
                                       panel_index(held, n % kPanelRows, k);
          const float expected = file.value(g, n, k);
          const float actual = held == DType::kF32
                                   ? reinterpret_cast<float*>(data.data())[at]
                                   : bf16_to_f32(reinterpret_cast<uint16_t*>(data.data())[at]);
          wrong += actual == (held == DType::kF32 ? expected : bf16_to_f32(f32_to_bf16(expected)))
                       ? 0
                       : 1;
        }
      }
    }
  }
  EXPECT_MESSAGE(wrong == 0, std::to_string(wrong) + " elements are wrong");
}

MOEPP_TEST(float8_is_loaded_element_by_element) {
  for (const DType held : {DType::kF32, DType::kBf16}) {
    check_loaded({256, 256}, DType::kF32, held);
    check_loaded({129, 130}, DType::kBf16, held);
    check_loaded({1, 1}, DType::kF32, held);
    check_loaded({3, 140, 257}, DType::kBf16, held);
  }
}

// int8 and int4 are made of the very values.
MOEPP_TEST(float8_is_quantised_as_its_values) {
  Float8File file({160, 200});
  file.write();
  std::vector<float> values;
  for (int64_t n = 0; n < 160; n++) {
    for (int64_t k = 0; k < 200; k++) values.push_back(file.value(0, n, k));
  }
  const TemporaryFile plain(0);
  std::ofstream(plain.path(), std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * 4));
  TensorRef twin = file.ref;
  twin.dtype = DType::kF32;
  twin.scale.clear();
  twin.file = plain.path();
  twin.byte_length *= 4;
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(2, "scalar", &device).ok());
  for (const DType held : {DType::kI8, DType::kI4}) {
    for (const Layout layout : {Layout::kMatrix, Layout::kGateUp}) {
      const WeightSpec spec = file.spec(held), other = {"twin", held, twin.shape, {twin}};
      const auto bytes = static_cast<size_t>(device->weight_bytes(spec, layout));
      std::vector<std::byte> from_codes(bytes), from_values(bytes);
      EXPECT(device->load_weight(spec, layout, from_codes.data(), {}).ok());
      EXPECT(device->load_weight(other, layout, from_values.data(), {}).ok());
      EXPECT(from_codes == from_values);
    }
  }
}

// Elements [begin, end) of a row, as f32.
static std::vector<float> piece_of(const StackedRows& rows, int64_t row, int64_t begin,
                                   int64_t end) {
  std::vector<float> values(static_cast<size_t>(end - begin));
  EXPECT(convert_row(rows.row(row), begin, end - begin, DType::kF32,
                     reinterpret_cast<std::byte*>(values.data())));
  return values;
}

// Heads of `head_rows` begin and end within blocks of 128 rows.
static void check_heads(const HeadRows& taken, int64_t head_rows, int64_t columns) {
  Float8File file({taken.heads * head_rows, columns}, DType::kBf16);
  file.write();
  file.ref.rows = taken;
  const int64_t length = taken.transposed ? taken.count : columns,
                each = taken.transposed ? columns : taken.count;
  StackedRows rows;
  const WeightSpec spec = {"held", DType::kF32, {taken.heads, each, length}, {file.ref}};
  EXPECT(StackedRows::open(spec, &rows).ok());
  int64_t wrong = 0;
  for (int64_t row = 0; row < taken.heads * each; row++) {
    const int64_t head = row / each * head_rows + taken.first, i = row % each;
    for (int64_t begin = 0; begin < length; begin += 100) {
      const int64_t end = std::min(length, begin + 100);
      const std::vector<float> values = piece_of(rows, row, begin, end);
      for (int64_t k = begin; k < end; k++) {
        const float expected =
            taken.transposed ? file.value(0, head + k, i) : file.value(0, head + i, k);
        wrong += values[static_cast<size_t>(k - begin)] == expected ? 0 : 1;
      }
    }
  }
  EXPECT_MESSAGE(wrong == 0, std::to_string(wrong) + " elements are wrong");
}

MOEPP_TEST(float8_gives_the_rows_of_heads) {
  for (const bool transposed : {false, true}) {
    check_heads({3, 0, 192, transposed}, 448, 260);
    check_heads({3, 192, 256, transposed}, 448, 260);
    check_heads({2, 128, 128, transposed}, 256, 128);
    check_heads({5, 3, 4, transposed}, 7, 1);
    check_heads({1, 129, 1, transposed}, 130, 129);
  }
}

MOEPP_TEST(float8_refuses_rows_that_heads_do_not_have) {
  Float8File file({300, 20});
  file.write();
  const auto refuses = [&](const HeadRows& taken, DType held, const std::string& words) {
    file.ref.rows = taken;
    StackedRows rows;
    const Status status =
        StackedRows::open({"held", held, {taken.heads, taken.count, 20}, {file.ref}}, &rows);
    EXPECT_MESSAGE(!status.ok() && status.message.find(words) != std::string::npos,
                   "expected '" + words + "', got '" + status.message + "'");
  };
  refuses({7, 0, 10}, DType::kF32, "is [300, 20], expected a matrix of 7 heads");
  refuses({3, 50, 51}, DType::kF32, "with rows 50 to 101");
  refuses({3, -1, 5}, DType::kF32, "with rows -1 to 4");
  refuses({3, 0, 0}, DType::kF32, "expected a matrix of 3 heads");
  refuses({3, 0, 100}, DType::kF8, "are not held as float8");
}

template <class Change>
static void expect_refused(const Change& change, const std::string& words) {
  for (const DType held : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
    Float8File file({130, 140});
    change(file);
    file.write();
    std::shared_ptr<Device> device;
    EXPECT(open_cpu_device(2, "scalar", &device).ok());
    const WeightSpec spec = file.spec(held);
    std::vector<std::byte> data(static_cast<size_t>(device->weight_bytes(spec, Layout::kMatrix)) +
                                1);
    const Status status = device->load_weight(spec, Layout::kMatrix, data.data(), {});
    EXPECT_MESSAGE(
        status.code == Code::kBadWeights && status.message.find(words) != std::string::npos,
        "expected '" + words + "', got '" + status.message + "'");
  }
}

MOEPP_TEST(float8_refuses_bad_files) {
  for (const uint8_t nan : {0x7f, 0xff})
    expect_refused([&](Float8File& file) { file.codes[129 * 140 + 139] = nan; },
                   "row 129 holds a NaN");
  expect_refused([](Float8File& file) { file.scales[3] = INFINITY; }, "scale 3 is inf");
  expect_refused([](Float8File& file) { file.scales[0] = NAN; }, "scale 0 is nan");
  expect_refused([](Float8File& file) { file.scales[1] = -1.0f; }, "scale 1 is -1");
  expect_refused([](Float8File& file) { file.scales[1] = 0x1p120f; }, "expected 0 to 2^119");
  expect_refused([](Float8File& file) { file.ref.scale.clear(); }, "without scales");
  expect_refused([](Float8File& file) { file.ref.scale[0].dtype = DType::kF16; },
                 "its scales are f16");
  expect_refused(
      [](Float8File& file) {
        file.ref.scale[0].shape = {2, 1};
      },
      "its scales are [2, 1], expected [2, 2]");
  expect_refused(
      [](Float8File& file) {
        file.ref.scale[0].strides = {0, 0}, file.ref.scale[0].byte_length = 4;
      },
      "has fewer scales");
}

}  // namespace moepp::test
