// Programs on an emulated GPU hold buffers as bf16 between ops, and give the same bits as with f32.
#include <algorithm>

#include "compare.h"
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "debugging.h"
#include "small_model.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

namespace {

using Names = std::vector<std::string>;

// Every x is rows of whole units, and 128 stored rows of the experts give a wide tile.
constexpr int64_t kWidth = 128, kInner = 64;

ProgramSpec model_of(const std::string& file, DType dtype) {
  ProgramSpec spec = SmallModel(file, kWidth, kInner).spec;
  for (WeightSpec& weight : spec.weights) {
    if (is_matrix(weight)) weight.dtype = dtype;
  }
  return spec;
}

struct Ran {
  std::map<std::string, std::vector<float>> results;
  Names bf16;
};

// Steps of so many tokens, with captures in every second one; the first captures nothing.
std::vector<Ran> run(const char* gpu, const char* words, const ProgramSpec& spec,
                     const std::vector<int64_t>& steps, const Names& capture) {
  const Debugging debugging(words, gpu);
  const auto program = compiled(opened(), spec);
  std::vector<Ran> all;
  for (const int64_t tokens : steps) {
    SmallStep step(*program, tokens, all.size() % 2 == 0 ? Names() : capture);
    const Status status = program->run(step.step);
    EXPECT_MESSAGE(status.ok(), status.message);
    Names bf16 = program->bf16_buffers();
    std::sort(bf16.begin(), bf16.end());
    all.push_back({step.results, std::move(bf16)});
  }
  return all;
}

void expect_same_results(const char* gpu, const ProgramSpec& spec, DType dtype,
                         const std::vector<int64_t>& steps) {
  const Names capture = {"y0", "up1", "next1", "sum1"};
  const auto narrow = run(gpu, "", spec, steps, capture),
             wide = run(gpu, "no-bf16", spec, steps, capture);
  for (size_t i = 0; i < steps.size(); i++) {
    const std::string label = std::string(gpu) + " " + dtype_name(dtype) + ", step " +
                              std::to_string(i) + " of " + std::to_string(steps[i]) + " tokens";
    EXPECT_MESSAGE(wide[i].bf16.empty(), label);
    const bool captures = i % 2 == 1;
    EXPECT_MESSAGE(
        narrow[i].bf16 == (steps[i] <= 8 ? Names()
                           : captures    ? Names{"next0", "up0", "up2"}
                                         : Names{"next0", "next1", "up0", "up1", "up2", "y0"}),
        label + ": other buffers are bf16");
    EXPECT(narrow[i].results.size() == (captures ? capture.size() + 1 : 1));
    for (const auto& [name, values] : wide[i].results) {
      if (name == "up1") continue;  // rows without an expert are not written
      const std::vector<float>& got = narrow[i].results.at(name);
      EXPECT_MESSAGE(same_bits(got.data(), values.data(), values.size() * 4),
                     label + ": " + name + " differs");
    }
  }
}

}  // namespace

MOEPP_TEST(cuda_bf16_between_ops_changes_no_bit) {
  if (!kRepeats) return;
  const TemporaryFile file(int64_t{1} << 19);
  const auto check = [&](const char* gpu, DType dtype, const std::vector<int64_t>& steps) {
    expect_same_results(gpu, model_of(file.path(), dtype), dtype, steps);
  };
  // Decode; steps that are recorded and replayed, with captures and without; prefill, with few rows
  // and with the widest tiles.
  check("hopper", DType::kBf16, {1, 2, 40, 40, 40, 40, 40, 40, 70, 200});
  check("ampere", DType::kBf16, {1, 40, 70, 200});
  check("ampere", DType::kI8, {1, 40, 70, 200});
  check("hopper", DType::kI4, {1, 40, 70, 200});
}

// The kernels that steps of 200 tokens take above.
MOEPP_TEST(cuda_bf16_between_ops_reaches_the_widest_tiles) {
  const TemporaryFile file(int64_t{1} << 19);
  const auto launches = [](cuda::GemmKernel kernel) {
    return cuda::gemm_launches()[static_cast<size_t>(kernel)].load();
  };
  for (const bool hopper : {true, false}) {
    const auto kernel = hopper ? cuda::GemmKernel::kSm90 : cuda::GemmKernel::kSm80;
    const int64_t before = launches(kernel);
    run(hopper ? "hopper" : "ampere", "", model_of(file.path(), DType::kBf16), {200}, {});
    EXPECT(launches(kernel) == before + 7);  // three layers' experts, and the head
  }
}

// Without a kernel that rounds, nothing is bf16: f32 weights, and Turing.
MOEPP_TEST(cuda_keeps_f32_that_no_kernel_rounds) {
  const TemporaryFile file(int64_t{1} << 19);
  EXPECT(run("hopper", "", model_of(file.path(), DType::kF32), {70}, {})[0].bf16.empty());
  EXPECT(run("turing", "", model_of(file.path(), DType::kBf16), {70}, {})[0].bf16.empty());
}

}  // namespace moepp::simt_test
#endif
