// int8 and int4 weights on the CUDA device. The numbers are the CPU's, bit by bit, from a
// checkpoint or a packed file. A program with them gives the CPU's results with the same values in
// f32.
#include <cstdio>

#include "weights/panels.h"
#include "cuda/kernels/grouped_gemm/quantised.cuh"
#include "cuda/weight_layout.h"
#include "device_test.h"
#include "program/program.h"
#include "small_model.h"
#include "test.h"

namespace moepp::simt_test {

static std::shared_ptr<Device> cpu_device() {
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(1, "", &device).ok());
  return device;
}
static std::shared_ptr<Device> cuda_device() {
  std::shared_ptr<Device> device;
  EXPECT(open_cuda_device(0, &device).ok());
  return device;
}

// The values of a row, as weight_layout.h describes them: unit by unit, word by word.
static std::vector<float> row_values(DType dtype, const unsigned char* values,
                                     const uint32_t* words, int64_t stride, int64_t blocks) {
  std::vector<float> row(static_cast<size_t>(blocks * 128));
  for (int64_t b = 0; b < blocks; b++) {
    const uint32_t word = words[b * stride];
    float scale;
    const uint32_t bits = dtype == DType::kI8 ? word : word >> 20 << 20;
    std::memcpy(&scale, &bits, 4);
    const int64_t bytes = dtype == DType::kI8 ? 128 : 64;
    for (int64_t at = 0; at < bytes; at++) {
      const int64_t c = at / 16 % 4, i = at / 4 % 4, byte = at % 4;
      const unsigned char value = values[b * bytes + at];
      if (dtype == DType::kI8) {
        constexpr int64_t kOrder[] = {0, 2, 1, 3};
        row[static_cast<size_t>(b * 128 + at / 64 * 64 + 16 * i + 4 * c + kOrder[byte])] =
            static_cast<float>(value - 128) * scale;
        continue;
      }
      for (int64_t n = 2 * byte; n < 2 * byte + 2; n++) {
        const int q = (n % 2 == 0 ? value & 15 : value >> 4) - 8,
                  multiplier = static_cast<int>(word >> (5 * i) & 31) - 16;
        row[static_cast<size_t>(b * 128 + 32 * i + 16 * (n / 2 % 2) + 4 * c + 2 * (n % 2) +
                                n / 4)] = static_cast<float>(q * multiplier) * scale;
      }
    }
  }
  return row;
}

static WeightSpec weight_of(const std::string& file, DType dtype, const Shape& shape) {
  TensorRef ref;
  ref.name = "w";
  ref.shape = shape;
  ref.strides = {shape[1] * shape[2], shape[2], 1};
  ref.file = file;
  ref.byte_length = static_cast<uint64_t>(shape[0] * shape[1] * shape[2]) * 4;
  return {"w", dtype, shape, {ref}};
}

static std::vector<unsigned char> loaded_on_cuda(const WeightSpec& spec, Layout layout,
                                                 const std::vector<std::byte>* packed) {
  const auto device = cuda_device();
  const int64_t bytes = device->weight_bytes(spec, layout);
  void* data = device->allocate(bytes);
  std::atomic<int64_t> done{0};
  Control control;
  control.done_bytes = &done;
  const Status status = packed == nullptr
                            ? device->load_weight(spec, layout, data, control)
                            : device->load_packed(spec, layout, packed->data(), data, control);
  EXPECT_MESSAGE(status.ok(), status.message);
  EXPECT(done.load() == bytes);
  std::vector<unsigned char> result(static_cast<size_t>(bytes));
  EXPECT(simt::copy_to_host(result.data(), data, result.size(), nullptr) == simt::kSuccess);
  EXPECT(simt::synchronize(nullptr) == simt::kSuccess);
  device->release(data, bytes);
  return result;
}

static void expect_same_numbers(const std::string& file, DType dtype, Layout layout,
                                const Shape& shape) {
  const std::string label = std::string(dtype_name(dtype)) + " O=" + std::to_string(shape[1]) +
                            " I=" + std::to_string(shape[2]);
  const WeightSpec spec = weight_of(file, dtype, shape);
  const auto cpu = cpu_device();
  std::vector<std::byte> panels(static_cast<size_t>(cpu->weight_bytes(spec, layout)));
  EXPECT(cpu->load_weight(spec, layout, panels.data(), {}).ok());
  const std::vector<unsigned char> rows = loaded_on_cuda(spec, layout, nullptr);
  EXPECT_MESSAGE(rows == loaded_on_cuda(spec, layout, &panels),
                 label + ": a packed weight differs");
  const int64_t stored = cuda::weight_rows(layout, shape[1]), blocks = quant_blocks(shape[2]);
  const int64_t row_bytes = blocks * (dtype == DType::kI8 ? 128 : 64),
                padded = cuda::scale_rows(stored);
  const int64_t group_bytes = stored * row_bytes + blocks * padded * 4,
                bytes = panel_bytes(dtype, shape[2]);
  EXPECT(static_cast<int64_t>(rows.size()) == shape[0] * group_bytes);
  for (int64_t n = 0; n < shape[0]; n++) {
    const unsigned char* group = rows.data() + n * group_bytes;
    for (int64_t panel = 0; panel < panel_count(layout, shape[1]); panel++) {
      const auto* from = reinterpret_cast<const unsigned char*>(panels.data()) +
                         (n * panel_count(layout, shape[1]) + panel) * bytes;
      for (int64_t lane = 0; lane < kPanelRows; lane++) {
        const int64_t row = panel_row(layout, shape[1], panel, lane), f = shape[1] / 2;
        if (row < 0) continue;
        const int64_t place =
            layout == Layout::kMatrix ? row : row % f / 8 * 16 + row % f % 8 + row / f * 8;
        const auto* words = reinterpret_cast<const uint32_t*>(group + stored * row_bytes) + place;
        const std::vector<float> values =
            row_values(dtype, group + place * row_bytes, words, padded, blocks);
        for (int64_t k = 0; k < shape[2]; k++) {
          const float expected = quantised_element(dtype, from, lane, k);
          EXPECT_MESSAGE(values[static_cast<size_t>(k)] == expected,
                         label + ": row " + std::to_string(row) + " differs");
        }
      }
    }
  }
}

MOEPP_TEST(cuda_quantises_as_the_cpu) {
  const TemporaryFile file(60000);
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    expect_same_numbers(file.path(), dtype, Layout::kMatrix, {1, 1, 1});
    expect_same_numbers(file.path(), dtype, Layout::kMatrix, {3, 45, 130});
    expect_same_numbers(file.path(), dtype, Layout::kMatrix, {1, 33, 512});
    expect_same_numbers(file.path(), dtype, Layout::kGateUp, {2, 14, 129});
    expect_same_numbers(file.path(), dtype, Layout::kGateUp, {3, 74, 260});
  }
}

MOEPP_TEST(cuda_refuses_what_cannot_be_quantised) {
  const TemporaryFile file(4000);
  for (const float wrong : {HUGE_VALF, -HUGE_VALF, NAN}) {
    std::FILE* stored = std::fopen(file.path().c_str(), "r+b");
    std::fseek(stored, 4 * (17 * 130 + 129), SEEK_SET);
    EXPECT(std::fwrite(&wrong, 4, 1, stored) == 1);
    std::fclose(stored);
    const auto device = cuda_device();
    for (const DType dtype : {DType::kI8, DType::kI4}) {
      const WeightSpec spec = weight_of(file.path(), dtype, {2, 15, 130});
      void* data = device->allocate(device->weight_bytes(spec, Layout::kMatrix));
      const Status status = device->load_weight(spec, Layout::kMatrix, data, {});
      EXPECT_MESSAGE(
          status.code == Code::kBadWeights &&
              status.message == std::string("w: row 17 holds a NaN or an infinity, which ") +
                                    dtype_name(dtype) + " cannot; expected finite values",
          status.message);
      device->release(data, 0);
    }
  }
}

// Every byte and every nibble as a pair of bf16, in both halves.
static __global__ void make_pairs(uint32_t* bytes, uint32_t* nibbles) {
  const unsigned i = blockIdx.x * 32 + threadIdx.x;  // 0 to 255
  bytes[i] = cuda::int8_pair((i | (255 - i) << 16) | 0xa500a500u);
  for (int m = -15; m <= 15; m++) {
    const uint32_t multiplier = cuda::twice_bf16(static_cast<float>(m)),
                   minus = cuda::twice_bf16(-136.0f * static_cast<float>(m));
    nibbles[(m + 15) * 256 + static_cast<int>(i)] =
        cuda::int4_pair((i & 15) | (i >> 4) << 16 | 0xff50ff50u, multiplier, minus);
  }
}

MOEPP_TEST(simt_quantised_pairs_are_exact) {
  Shared<uint32_t> bytes(256), nibbles(31 * 256);
  EXPECT_RUNS(make_pairs, {dim3(8), dim3(32)}, bytes.data(), nibbles.data());
  const auto is = [](uint32_t pair, int low, int high) {
    return bf16_to_f32(static_cast<uint16_t>(pair)) == static_cast<float>(low) &&
           bf16_to_f32(static_cast<uint16_t>(pair >> 16)) == static_cast<float>(high);
  };
  for (int i = 0; i < 256; i++) {
    EXPECT(is(bytes[static_cast<size_t>(i)], i - 128, 127 - i));
    for (int m = -15; m <= 15; m++) {
      EXPECT(
          is(nibbles[static_cast<size_t>((m + 15) * 256 + i)], (i % 16 - 8) * m, (i / 16 - 8) * m));
    }
  }
}

// A small model's weights in `dtype`, and the same with their values as f32, written over those in
// `file`.
struct QuantisedModel {
  ProgramSpec quantised, values;

  QuantisedModel(const std::string& original, const std::string& file, DType dtype)
      : quantised(SmallModel(original).spec), values(SmallModel(file).spec) {
    const auto cpu = cpu_device();
    std::FILE* stored = std::fopen(file.c_str(), "r+b");
    for (WeightSpec& weight : quantised.weights) {
      const bool gate_up = weight.name.rfind("gate_up", 0) == 0;
      if (!gate_up && weight.name != "table" && weight.name[0] != 'w' &&
          weight.name.rfind("down", 0) != 0)
        continue;
      weight.dtype = dtype;
      const Layout layout = gate_up ? Layout::kGateUp : Layout::kMatrix;
      std::vector<unsigned char> panels(static_cast<size_t>(cpu->weight_bytes(weight, layout)));
      EXPECT(cpu->load_weight(weight, layout, panels.data(), {}).ok());
      const int64_t rank = static_cast<int64_t>(weight.shape.size()), k = weight.shape.back();
      const int64_t rows = weight.shape[static_cast<size_t>(rank - 2)],
                    count = panel_count(layout, rows);
      const int64_t panel_total = count * (rank == 3 ? weight.shape[0] : 1);
      for (int64_t unit = 0; unit < panel_total * kPanelRows; unit++) {
        const int64_t panel = unit / kPanelRows, lane = unit % kPanelRows;
        const int64_t row = panel_row(layout, rows, panel % count, lane);
        if (row < 0) continue;
        std::vector<float> one(static_cast<size_t>(k));
        for (int64_t i = 0; i < k; i++) {
          one[static_cast<size_t>(i)] =
              quantised_element(dtype, panels.data() + panel * panel_bytes(dtype, k), lane, i);
        }
        const int64_t at = static_cast<int64_t>(weight.parts[0].byte_offset) +
                           (panel / count * rows + row) * k * 4;
        std::fseek(stored, static_cast<long>(at), SEEK_SET);
        EXPECT(std::fwrite(one.data(), 4, one.size(), stored) == one.size());
      }
    }
    std::fclose(stored);
  }
};

static void expect_same_results(DType dtype, const std::vector<int64_t>& token_counts) {
  const TemporaryFile original(SmallModel::floats()), dequantised(SmallModel::floats());
  const QuantisedModel model(original.path(), dequantised.path(), dtype);
  std::unique_ptr<Program> on_cpu, on_gpu;
  EXPECT(Program::compile(cpu_device(), model.values, {}, &on_cpu).ok());
  const Status status = Program::compile(cuda_device(), model.quantised, {}, &on_gpu);
  EXPECT_MESSAGE(status.ok(), status.message);
  if (!status.ok()) return;
  for (const int64_t tokens : token_counts) {
    SmallStep want(*on_cpu, tokens, {"sum1"}), got(*on_gpu, tokens, {"sum1"});
    EXPECT(on_cpu->run(want.step).ok());
    EXPECT(on_gpu->run(got.step).ok());
    for (const auto& [name, expected] : want.results) {
      for (size_t i = 0; i < expected.size(); i++) {
        // Three layers of sums of 20 products of the size of 1, in another order.
        const float value = got.results[name][i],
                    bound = 200.0f * 5.96e-8f * (1.0f + std::fabs(expected[i]));
        EXPECT_MESSAGE(std::fabs(expected[i] - value) <= bound,
                       std::string(dtype_name(dtype)) + " " + std::to_string(tokens) + " tokens, " +
                           name + "[" + std::to_string(i) + "] is " + std::to_string(value) +
                           ", expected " + std::to_string(expected[i]));
      }
    }
  }
}

MOEPP_TEST(cuda_quantised_program) {
  // With so few tokens activations stay f32 on every chip; 2 are recorded and replayed.
  for (const DType dtype : {DType::kI8, DType::kI4}) expect_same_results(dtype, {2, 2, 1});
#if SIMT_EMULATED
  // Without bf16 products they stay f32 throughout.
  const simt::emu::Gpu before = simt::emu::gpu();
  simt::emu::gpu().major = 7, simt::emu::gpu().minor = 5;
  for (const DType dtype : {DType::kI8, DType::kI4}) expect_same_results(dtype, {3, 3, 8, 70});
  simt::emu::gpu() = before;
#endif
}

}  // namespace moepp::simt_test
