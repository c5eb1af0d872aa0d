// float8 weights on the CUDA device: every code as the kernels read it; loading keeps the codes and
// the scales as they are stored.
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "float8_file.h"
#include "opened_device.h"

namespace moepp::simt_test {

using cuda::Float8Weight;

// One thread for each code: as f32, as the halves of pairs of bf16, and in a block of its own.
static __global__ void read_codes(const unsigned char* block, float* wide, uint32_t* pairs,
                                  float* in_block) {
  const uint32_t code = threadIdx.x;
  float four[4];
  Float8Weight::widen(code * 0x01010101u, 0, four);
  for (int i = 0; i < 4; i++) wide[4 * code + i] = four[i];
  pairs[2 * code] = cuda::float8_pair(code | (255 - code) << 8, 0);
  pairs[2 * code + 1] = cuda::float8_pair(code << 16 | (255 - code) << 24, 1);
  if (code < 128) in_block[code] = Float8Weight::value(block, __float_as_uint(0.5f), code);
}

MOEPP_TEST(cuda_float8_codes) {
  Shared<unsigned char> block(128);
  Shared<float> wide(4 * 256), in_block(128);
  Shared<uint32_t> pairs(2 * 256);
  Float8Block stored = {};
  for (int k = 0; k < 128; k++) stored.code[k] = static_cast<uint8_t>(k == 127 ? 0 : k ^ 0x80);
  cuda::pack_block(stored, block.data());
  EXPECT_RUNS(read_codes, {dim3(1), dim3(256)}, block.data(), wide.data(), pairs.data(),
              in_block.data());
  const auto is = [](float value, int code) {
    return value == static_cast<float>(number_of(code)) && std::signbit(value) == (code >= 0x80);
  };
  for (int code = 0; code < 256; code++) {
    const auto at = static_cast<size_t>(code);
    if (is_e4m3_nan(static_cast<uint8_t>(code)) || is_e4m3_nan(static_cast<uint8_t>(255 - code)))
      continue;
    for (size_t i = 0; i < 4; i++) EXPECT(is(wide[4 * at + i], code));
    for (size_t i = 0; i < 2; i++) {
      EXPECT(is(bf16_to_f32(static_cast<uint16_t>(pairs[2 * at + i])), code));
      EXPECT(is(bf16_to_f32(static_cast<uint16_t>(pairs[2 * at + i] >> 16)), 255 - code));
    }
    if (code < 127) EXPECT(in_block[at] == static_cast<float>(number_of(code ^ 0x80)) * 0.5f);
  }
}

static Status load(Device& device, const WeightSpec& spec, Layout layout,
                   std::vector<unsigned char>* bytes) {
  bytes->resize(static_cast<size_t>(device.weight_bytes(spec, layout)));
  void* data = device.allocate(static_cast<int64_t>(bytes->size()));
  const Status status = device.load_weight(spec, layout, data, {});
  EXPECT(simt::copy_to_host(bytes->data(), data, bytes->size(), nullptr) == simt::kSuccess);
  EXPECT(simt::synchronize(nullptr) == simt::kSuccess);
  device.release(data, static_cast<int64_t>(bytes->size()));
  return status;
}

static void expect_loaded(const Shape& shape, Layout layout) {
  Float8File file(shape);
  file.write();
  const auto device = opened();
  std::vector<unsigned char> bytes;
  EXPECT(load(*device, file.spec(DType::kF8), layout, &bytes).ok());
  const int64_t rows = shape[1], stored = cuda::weight_rows(layout, rows),
                blocks = quant_blocks(shape[2]), words = cuda::scale_rows(stored);
  const int64_t group_bytes = stored * blocks * 128 + blocks * words * 4;
  EXPECT(static_cast<int64_t>(bytes.size()) == shape[0] * group_bytes);
  int64_t wrong = 0;
  for (int64_t n = 0; n < shape[0]; n++) {
    const unsigned char* group = bytes.data() + n * group_bytes;
    const auto* scales = reinterpret_cast<const float*>(group + stored * blocks * 128);
    for (int64_t place = 0; place < stored; place++) {
      const int64_t row = cuda::weight_row_at(layout, rows, place);
      for (int64_t k = 0; k < blocks * 128; k++) {
        const int64_t at = k / 64 * 64 + k / 4 % 4 * 16 + k / 16 % 4 * 4 + k % 4;
        const float value =
            e4m3_to_f32(group[place * blocks * 128 + at]) * scales[k / 128 * words + place];
        const bool there = row >= 0 && k < shape[2];
        wrong += value == (there ? file.value(n, row, k) : 0.0f) ? 0 : 1;
      }
    }
  }
  EXPECT_MESSAGE(wrong == 0, std::to_string(wrong) + " elements are wrong");
}

MOEPP_TEST(cuda_float8_is_held_as_it_is_stored) {
  expect_loaded({1, 1, 1}, Layout::kMatrix);
  expect_loaded({2, 140, 257}, Layout::kMatrix);
  expect_loaded({3, 74, 130}, Layout::kGateUp);
  expect_loaded({1, 300, 128}, Layout::kGateUp);
}

MOEPP_TEST(cuda_refuses_bad_float8) {
  const auto device = opened();
  std::vector<unsigned char> bytes;
  for (const DType held : {DType::kF8, DType::kBf16, DType::kI8}) {
    Float8File file({2, 20, 130});
    file.codes[33 * 130 + 129] = 0xff;
    file.write();
    Status status = load(*device, file.spec(held), Layout::kMatrix, &bytes);
    EXPECT_MESSAGE(status.code == Code::kBadWeights &&
                       status.message.find("row 33 holds a NaN") != std::string::npos,
                   status.message);
    file.ref.scale.clear();
    status = load(*device, file.spec(held), Layout::kMatrix, &bytes);
    EXPECT(status.message.find("without scales") != std::string::npos);
  }
  // f32 is not made float8
  const TemporaryFile file(100);
  TensorRef part;
  part.name = "part";
  part.shape = {10, 10};
  part.strides = {10, 1};
  part.file = file.path();
  part.byte_length = 400;
  const WeightSpec spec = {"w", DType::kF8, {10, 10}, {part}};
  const Status status = load(*device, spec, Layout::kMatrix, &bytes);
  EXPECT_MESSAGE(status.message.find("part is f32, expected float8") != std::string::npos,
                 status.message);
}

}  // namespace moepp::simt_test
