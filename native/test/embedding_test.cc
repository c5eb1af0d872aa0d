#include "backends.h"
#include "weights/panels.h"
#include "reference.h"
#include "reference_gemm.h"

namespace moepp::test {

MOEPP_TEST(embedding) {
  // T, V, H
  const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7}, {9, 33, 60}, {64, 224, 96}, {70, 100, 1536}};
  for_each_backend([&](const Backend& backend) {
    for (const auto& [t, v, h] : shapes) {
      Guarded<int32_t> tokens(t);
      // the last row first
      for (int64_t i = 0; i < t; i++) tokens[i] = static_cast<int32_t>((i * 31 + v - 1) % v);
      for (DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
        for (Layout layout : {Layout::kRows, Layout::kMatrix}) {
          if (is_quantised(dtype) && layout == Layout::kRows) continue;
          const int64_t bytes = layout == Layout::kRows
                                    ? v * h * dtype_size(dtype)
                                    : panel_count(layout, v) * panel_bytes(dtype, h);
          Guarded<unsigned char> table(bytes);
          if (layout == Layout::kMatrix) {
            fill_panels(table.data(), dtype, layout, 1, v, h, 1, 1.0f);
          } else {
            std::vector<float> values(static_cast<size_t>(v * h));
            fill(values.data(), v * h, 1);
            for (int64_t i = 0; i < v * h; i++) {
              const float value = values[static_cast<size_t>(i)];
              const uint16_t half = f32_to_bf16(value);
              if (dtype == DType::kF32) {
                std::memcpy(table.data() + i * 4, &value, 4);
              } else {
                std::memcpy(table.data() + i * 2, &half, 2);
              }
            }
          }
          Guarded<float> out(t * h);
          const Tensor kt = whole(tokens, {t}), wt = tensor(table.data(), dtype, {v, h}, layout);
          Tensor ot = whole(out, {t, h});
          const EmbeddingArgs args = {&kt, &wt, &ot};
          const std::string label =
              backend.name + " H " + std::to_string(h) + " " + dtype_name(dtype);
          backend.isa.kernels->embedding(args, backend.pool);
          expect_no_difference(label, check_embedding(args, all(t)));
          expect_intact(label, out);
        }
      }
    }
  });
}

}  // namespace moepp::test
