// Runs the kernels of seeded_bugs.h and looks at what they compute.
#pragma once

#include "device_test.h"
#include "seeded_bugs.h"

namespace moepp::simt_test {

constexpr int kWrongResult = 10, kRefused = 11;  // exit statuses; a sanitizer's are others

// True if the kernel ran and gave the right result.
inline int run_tiled(void (*kernel)(const bf16*, const bf16*, float*, int, int, int),
                     size_t smem_bytes) {
  const size_t m = 40, n = 50, k = 136;
  Shared<bf16> a(m * k), b(n * k);
  Shared<float> c(m * n, NAN);
  for (size_t i = 0; i < a.size(); i++)
    a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
  for (size_t i = 0; i < b.size(); i++)
    b[i] = simt::to_bf16(static_cast<float>(small_integer(i, 2)));
  const simt::Launch how = {dim3(2, 2), dim3(128), smem_bytes};
  const std::string text = run_kernel(kernel, how, a.data(), b.data(), c.data(), 40, 50, 136);
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  for (size_t i = 0; i < m * n; i++) {
    int sum = 0;
    for (size_t j = 0; j < k; j++)
      sum += small_integer(i / n * k + j, 1) * small_integer(i % n * k + j, 2);
    if (c[i] != static_cast<float>(sum)) return kWrongResult;
  }
  return 0;
}

inline int run_count(void (*kernel)(const float*, int, int*, int*)) {
  const size_t tokens = 23;
  Shared<float> logits(tokens * kChoices);
  Shared<int> best(tokens, -1), counts(kChoices);
  for (size_t i = 0; i < logits.size(); i++) {
    // the warps of a block see the same, and count the same
    const size_t pair = i / (2 * kChoices) * kChoices + i % kChoices;
    logits[i] = static_cast<float>(static_cast<unsigned>(pair) * 2654435761u >> 16 & 255u);
  }
  const std::string text = run_kernel(kernel, {dim3(3), dim3(64), sizeof(CountSmem)}, logits.data(),
                                      23, best.data(), counts.data());
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  int expected[kChoices] = {};
  for (size_t t = 0; t < tokens; t++) {
    int first = 0;
    for (int e = 1; e < kChoices; e++) {
      if (logits[t * kChoices + static_cast<size_t>(e)] >
          logits[t * kChoices + static_cast<size_t>(first)])
        first = e;
    }
    expected[first]++;
    if (best[t] != first) return kWrongResult;
  }
  for (size_t e = 0; e < kChoices; e++) {
    if (counts[e] != expected[e]) return kWrongResult;
  }
  return 0;
}

inline int run_piped(void (*kernel)(TensorMap, TensorMap, TensorMap, int)) {
  using simt::Element;
  using simt::Swizzle;
  const size_t m = 100, k = 328;
  Shared<bf16> a(m * k), b(64 * k);
  Shared<float> c(m * 64, NAN);
  for (size_t i = 0; i < a.size(); i++)
    a[i] = simt::to_bf16(static_cast<float>(small_integer(i, 1)));
  for (size_t i = 0; i < b.size(); i++)
    b[i] = simt::to_bf16(static_cast<float>(small_integer(i, 2)));
  TensorMap ma, mb, mc;
  (void)simt::make_tensor_map(&ma,
                              {a.device(), Element::kBf16, k, m, 2 * k, 64, 64, Swizzle::k128});
  (void)simt::make_tensor_map(&mb,
                              {b.device(), Element::kBf16, k, 64, 2 * k, 64, 64, Swizzle::k128});
  (void)simt::make_tensor_map(&mc, {c.device(), Element::kF32, 64, m, 256, 32, 64, Swizzle::kNone});
  const std::string text =
      run_kernel(kernel, {dim3(2), dim3(160), sizeof(PipedSmem)}, ma, mb, mc, 328);
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  for (size_t i = 0; i < m * 64; i++) {
    int sum = 0;
    for (size_t j = 0; j < k; j++)
      sum += small_integer(i / 64 * k + j, 1) * small_integer(i % 64 * k + j, 2);
    if (c[i] != static_cast<float>(sum)) return kWrongResult;
  }
  return 0;
}

inline int run_scales(void (*kernel)(const uint4*, const uint4*, uint4*)) {
  Shared<uint4> scales(32), x(32), once(32), twice(32);
  for (unsigned i = 0; i < 32; i++) {
    scales[i] = {i, i + 1, i + 2, i + 3};
    x[i] = {5 * i, 7, i, 9};
  }
  simt::Launch how = {dim3(1), dim3(32)};
  how.programmatic = true;
  const simt::Error error = run_on_device([&] {
    const simt::Error first = simt::launch(kernel, how, scales.device(), x.device(), once.device());
    return first != simt::kSuccess
               ? first
               : simt::launch(kernel, how, scales.device(), once.device(), twice.device());
  });
  if (error != simt::kSuccess) {
    std::printf("%s\n", simt::error_text(error));
    return kRefused;
  }
  for (unsigned i = 0; i < 32; i++) {
    if (twice[i].x != i * i * 5 * i || twice[i].w != (i + 3) * (i + 3) * 9) return kWrongResult;
  }
  return 0;
}

inline int run_sum(void (*kernel)(const int*, int*, unsigned*, int*)) {
  Shared<int> values(4 * 32), sums(4), total(1);
  Shared<unsigned> finished(1);
  int expected = 0;
  for (size_t i = 0; i < values.size(); i++) expected += values[i] = small_integer(i, 3);
  const std::string text = run_kernel(kernel, {dim3(4), dim3(32)}, values.data(), sums.data(),
                                      finished.data(), total.data());
  if (!text.empty()) {
    std::printf("%s\n", text.c_str());
    return kRefused;
  }
  return total[0] == expected ? 0 : kWrongResult;
}

}  // namespace moepp::simt_test
