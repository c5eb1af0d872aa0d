// Faults of AMX tiles that the tests of all instruction sets would not see. Values may not split
// into three bf16, and tiles may be left configured.
#include <cfloat>
#include <vector>

#include "cpu/isa/isa.h"
#include "weights/panels.h"
#include "host/thread_pool.h"
#include "device.h"
#include "reference_gemm.h"
#include "test.h"

namespace moepp::test {

using cpu::Isa;

static const Isa* amx() {
  for (const Isa& isa : cpu::available_isas()) {
    if (std::string(isa.name) == "amx") return &isa;
  }
  std::printf("    skipped: no AMX here\n");
  return nullptr;
}

static float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

// out[t] = x[t] * weight, one input and one output.
static std::vector<float> times(const Isa& isa, std::vector<float> x, float weight) {
  ThreadPool one(1);
  std::vector<uint16_t> panel(static_cast<size_t>(panel_bytes(DType::kBf16, 1) / 2));
  panel[0] = f32_to_bf16(weight);
  std::vector<float> out(x.size());
  const int64_t tokens = static_cast<int64_t>(x.size());
  const Tensor xt = tensor(x.data(), DType::kF32, {tokens, 1}),
               wt = tensor(panel.data(), DType::kBf16, {1, 1}, Layout::kMatrix);
  Tensor ot = tensor(out.data(), DType::kF32, {tokens, 1});
  isa.kernels->linear({&xt, &wt, &ot, Activation::kNone}, one);
  return out;
}

MOEPP_TEST(amx_splits_every_f32) {
  const Isa* isa = amx();
  if (isa == nullptr) return;
  std::vector<float> x;
  // all exponents, all patterns of bits
  for (uint32_t i = 0; i < 200000; i++) x.push_back(from_bits(i * 2654435761u));
  for (float value : {0.0f, -0.0f, FLT_MAX, -FLT_MAX, FLT_MIN, 0x1p-103f, 0x1.fffffep-103f,
                      1.0f + 0x1p-23f, HUGE_VALF, -HUGE_VALF}) {
    x.push_back(value);
  }
  for (uint32_t nan : {0x7f800001u, 0xff800001u, 0x7f80ffffu, 0x7fc00000u, 0x7fffffffu})
    x.push_back(from_bits(nan));
  const std::vector<float> one = times(*isa, x, 1.0f), two = times(*isa, x, 2.0f);
  int64_t wrong = 0;
  for (size_t i = 0; i < x.size(); i++) {
    if (std::isnan(x[i])) {
      wrong += std::isnan(one[i]) && std::isnan(two[i]) ? 0 : 1;
    } else if (std::abs(x[i]) >= 0x1p-103f) {  // the lowest bit of the low part is a normal number
      wrong += bits_of(one[i]) == bits_of(x[i]) && bits_of(two[i]) == bits_of(2.0f * x[i]) ? 0 : 1;
    } else {  // what is below the normal numbers counts as zero, in two of the parts at most
      wrong +=
          std::abs(one[i] - x[i]) <= 2 * FLT_MIN && std::abs(two[i] - 2.0f * x[i]) <= 4 * FLT_MIN
              ? 0
              : 1;
    }
  }
  EXPECT_MESSAGE(wrong == 0,
                 std::to_string(wrong) + " of " + std::to_string(x.size()) + " products are wrong");
}

// Sums whose terms are about as small as f32 gets. The bound is the usual one plus the parts that
// count as zero. These are two parts of each term, and the result of each of its three sums.
MOEPP_TEST(amx_sums_small_terms) {
  const Isa* isa = amx();
  if (isa == nullptr) return;
  ThreadPool one(1);
  constexpr int64_t kTokens = 5, kInputs = 300, kOutputs = 40;
  for (int exponent : {-60, -100, -110, -120, -126, -140}) {
    Guarded<float> x(kTokens * kInputs), out(kTokens * kOutputs);
    std::vector<char> weight(static_cast<size_t>(2 * panel_bytes(DType::kBf16, kInputs)));
    fill(x.data(), x.size(), 7, std::ldexp(1.0f, exponent));
    fill_panels(weight.data(), DType::kBf16, Layout::kMatrix, 1, kOutputs, kInputs, 8, 1.0f);
    const Tensor xt = tensor(x.data(), DType::kF32, {kTokens, kInputs});
    const Tensor wt = tensor(weight.data(), DType::kBf16, {kOutputs, kInputs}, Layout::kMatrix);
    Tensor ot = tensor(out.data(), DType::kF32, {kTokens, kOutputs});
    const LinearArgs args = {&xt, &wt, &ot, Activation::kNone};
    isa->kernels->linear(args, one);
    ProductReference reference(wt, Activation::kNone, Inputs::kExact);
    for (int64_t t = 0; t < kTokens; t++) {
      const Factors input = reference.input(x.data() + t * kInputs);
      for (int64_t n = 0; n < kOutputs; n++) {
        Bounded expected = reference.element(input, 0, n, 1.0);
        expected.tolerance += (2.0 + 3.0) * static_cast<double>(kInputs + 1) * kSmallest;
        const std::string wrong = difference(out[t * kOutputs + n], expected);
        EXPECT_MESSAGE(wrong.empty(), "2^" + std::to_string(exponent) + ": " + wrong);
      }
    }
  }
}

#if defined(__x86_64__)
// Threads that hold no tiles are switched faster, and cores that run none may save power.
MOEPP_TEST(amx_releases_tiles) {
  const Isa* isa = amx();
  if (isa == nullptr) return;
  times(*isa, {1.0f, 2.0f}, 1.0f);
  uint32_t in_use = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(in_use), "=d"(high) : "c"(1));
  EXPECT((in_use & (3u << 17)) == 0);
}
#endif

// A device that is told no set takes one that exists, and the same each time; one that is told
// takes that.
MOEPP_TEST(isa_is_measured_or_pinned) {
  for (const DType weights : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
    const Isa& chosen = cpu::fastest_isa(weights);
    EXPECT(&chosen == &cpu::fastest_isa(weights));
    if (cpu::available_isas().size() > 1) EXPECT(chosen.name != std::string("scalar"));
  }
  EXPECT(&cpu::fastest_isa(DType::kI8) == &cpu::fastest_isa(DType::kI4));
  const std::string fastest = cpu::fastest_isa().name;
  std::shared_ptr<Device> device;
  EXPECT(open_cpu_device(1, "", &device).ok() && device->info().isa == fastest);
  for (const Isa& isa : cpu::available_isas())
    EXPECT(open_cpu_device(1, isa.name, &device).ok() && device->info().isa == isa.name);
  EXPECT(!open_cpu_device(1, "mmx", &device).ok());
}

}  // namespace moepp::test
