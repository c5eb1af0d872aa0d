#include "cuda/weight_layout.h"
#include "gemm_setup.h"
#include "kernel_test.h"

namespace moepp::simt_test {

static void expect_embedding(int64_t t, int64_t v, int64_t h, DType dtype, Layout layout) {
  Shared<int32_t> tokens(static_cast<size_t>(t));
  for (int64_t i = 0; i < t; i++)
    tokens[static_cast<size_t>(i)] = static_cast<int32_t>((i * 31 + v - 1) % v);  // the last first
  const std::string label =
      "V " + std::to_string(v) + " H " + std::to_string(h) + " " + dtype_name(dtype);
  Shared<float> rows = filled(v * h, 1);
  const int64_t pitch = layout == Layout::kRows ? h : cuda::weight_pitch(dtype, h);
  Shared<unsigned char> table(static_cast<size_t>(v * pitch * dtype_size(dtype)), 0xff),
      plain(static_cast<size_t>(v * h * 4));
  for (int64_t row = 0; row < v; row++) {
    for (int64_t i = 0; i < h; i++) {
      const float value = rows[static_cast<size_t>(row * h + i)];
      const uint16_t half = f32_to_bf16(value);
      const auto size = static_cast<size_t>(dtype_size(dtype));
      unsigned char bytes[sizeof value];
      if (dtype == DType::kF32) {
        std::memcpy(bytes, &value, sizeof value);
      } else {
        std::memcpy(bytes, &half, sizeof half);
      }
      std::memcpy(table.data() + static_cast<size_t>(row * pitch + i) * size, bytes, size);
      std::memcpy(plain.data() + static_cast<size_t>(row * h + i) * size, bytes, size);
    }
  }
  Shared<float> out = unwritten(t * h);
  const Tensor kt = whole(tokens, {t}), wt = tensor(table.data(), dtype, {v, h}, layout);
  const Tensor reference = tensor(plain.data(), dtype, {v, h});
  Tensor ot = whole(out, {t, h});
  run_op(cuda::embedding, {&kt, &wt, &ot}, label);
  expect_no_difference(label, check_embedding({&kt, &reference, &ot}, all(t)));
}

MOEPP_TEST(simt_embedding) {
  // T, V, H
  const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {9, 33, 60}, {20, 224, 96}, {5, 100, 1536}};
  for (const auto& [t, v, h] : shapes) {
    for (DType dtype : {DType::kF32, DType::kBf16}) {
      for (Layout layout : {Layout::kRows, Layout::kMatrix})
        expect_embedding(t, v, h, dtype, layout);
    }
  }
}

// A table that is the output head's weight, too: the values themselves.
MOEPP_TEST(simt_embedding_quantised) {
  // T, V, H
  const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {9, 33, 60}, {20, 70, 200}, {5, 100, 1536}};
  for (const auto& [t, v, h] : shapes) {
    for (DType dtype : {DType::kI8, DType::kI4}) {
      const GemmWeight weight(dtype, Layout::kMatrix, 1, v, h);
      Shared<int32_t> tokens(static_cast<size_t>(t));
      for (int64_t i = 0; i < t; i++)
        tokens[static_cast<size_t>(i)] = static_cast<int32_t>((i * 31 + v - 1) % v);
      Shared<float> out = unwritten(t * h);
      const Tensor kt = whole(tokens, {t}),
                   table = tensor(weight.for_cuda.data, dtype, {v, h}, Layout::kMatrix);
      Tensor ot = whole(out, {t, h});
      const std::string label =
          "V " + std::to_string(v) + " H " + std::to_string(h) + " " + dtype_name(dtype);
      run_op(cuda::embedding, {&kt, &table, &ot}, label);
      for (int64_t i = 0; i < t * h; i++) {
        const auto expected = static_cast<float>(
            panel_element(weight.for_cpu, 0, tokens[static_cast<size_t>(i / h)], i % h));
        EXPECT_MESSAGE(out[static_cast<size_t>(i)] == expected,
                       label + ": element " + std::to_string(i) + " differs");
      }
    }
  }
}

}  // namespace moepp::simt_test
