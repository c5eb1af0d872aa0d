// Code that was compiled for less than the GPU at hand. Other kernels are chosen. One that is
// launched all the same ends with an error, instead of leaving its output as it was.
#include "cuda/kernels/grouped_gemm/gemm.h"
#include "device_test.h"
#include "opened_device.h"

#if SIMT_EMULATED
namespace moepp::simt_test {

using cuda::GemmKernel;

namespace {

// A Hopper with this code, for as long as it lives.
struct HopperWith : OtherGpu {
  HopperWith(int compiled, bool sm90a) {
    simt::emu::Gpu& gpu = simt::emu::gpu();
    gpu = simt::emu::gpu_named("hopper");
    gpu.compiled = compiled, gpu.compiled_sm90a = sm90a;
  }
};

// A product that gives each of 2 multiprocessors a tile of 128 x 128.
struct WideProduct {
  Shared<float> x{size_t{256} * 64, 1.0f}, out{size_t{256} * 128, -1.0f};
  Shared<simt::bf16> weight{size_t{128} * 64, simt::to_bf16(1.0f)};
  cuda::Gemm gemm = {};

  WideProduct() {
    gemm.x = x.device(), gemm.weight = weight.device(), gemm.out = {out.device(), false};
    gemm.picks_per_row = gemm.groups = gemm.row_step = 1, gemm.rows = gemm.group_rows = 256;
    gemm.k = gemm.x_pitch = gemm.pitch = 64;
    gemm.weight_rows = gemm.columns = 128;
    gemm.scale = 1.0f, gemm.dtype = DType::kBf16;
  }
};

std::string run(const cuda::Gemm& gemm, GemmKernel kernel, cuda::Compiled compiled) {
  const Shared<simt::bf16> copy(static_cast<size_t>(gemm.rows) * static_cast<size_t>(gemm.k));
  cuda::CudaQueue queue(nullptr, 2, compiled);
  queue.set_workspace(copy.device(), static_cast<int64_t>(copy.size() * sizeof(simt::bf16)));
  const simt::Error error = run_on_device([&] {
    cuda::run_gemm(gemm, kernel, queue);
    return queue.take_error();
  });
  return error == simt::kSuccess ? "" : simt::error_text(error);
}

}  // namespace

MOEPP_TEST(cuda_compiled_is_what_kernels_are_chosen_by) {
  struct Case {
    int compiled;
    bool sm90a;
    const char* isa;
    GemmKernel kernel;
  };
  const Case cases[] = {{1000, true, "sm_90a", GemmKernel::kSm90},
                        {90, false, "sm_90", GemmKernel::kSm80},
                        {80, false, "sm_80", GemmKernel::kSm80},
                        {75, false, "sm_75", GemmKernel::kF32}};
  for (const Case& c : cases) {
    const HopperWith gpu(c.compiled, c.sm90a);
    const auto device = opened();
    EXPECT_MESSAGE(device->info().isa == c.isa, device->info().isa);
    const auto& queue = cuda::CudaQueue::from(device->queue());
    WideProduct product;
    const GemmKernel chosen = cuda::choose_gemm(product.gemm, queue);
    EXPECT_MESSAGE(chosen == c.kernel,
                   std::string(c.isa) + ": kernel " + std::to_string(static_cast<int>(chosen)));
    const std::string text = run(product.gemm, chosen, queue.compiled());
    EXPECT_MESSAGE(text.empty(), text);
    for (const float value : {product.out[0], product.out[256 * 128 - 1]}) EXPECT(value == 64.0f);
  }
}

MOEPP_TEST(cuda_compiled_for_less_is_an_error) {
  WideProduct product;
  const auto refuses = [&](int compiled, bool sm90a, GemmKernel kernel, cuda::Compiled believed) {
    const HopperWith gpu(compiled, sm90a);
    const std::string text = run(product.gemm, kernel, believed);
    EXPECT_MESSAGE(text.find("not compiled for this") != std::string::npos, text);
  };
  refuses(90, false, GemmKernel::kSm90, 90);
  refuses(80, false, GemmKernel::kSm90, {80, true});
  refuses(75, false, GemmKernel::kSm80, 75);
  refuses(75, false, GemmKernel::kFewRows, 75);
  EXPECT(product.out[0] == -1.0f);
}

// Launched programmatically, code without the wait would be a race.
MOEPP_TEST(cuda_compiled_for_less_does_not_start_early) {
  const HopperWith gpu(80, false);
  WideProduct product;
  const std::string early = run(product.gemm, GemmKernel::kSm80, {90, false});
  EXPECT_MESSAGE(early.find("without wait_for_dependencies") != std::string::npos, early);
  EXPECT(run(product.gemm, GemmKernel::kSm80, 80).empty());
}

// Turing has no copies in flight, no reductions and no tensor cores for bf16. Here are the tests of
// kernels that go without, as such a card runs them.
MOEPP_TEST(simt_kernels_on_turing) {
  if (kFewCases) return;  // minutes for ThreadSanitizer
  const OtherGpu restore;
  simt::emu::gpu() = simt::emu::gpu_named("turing");
  int ran = 0;
  for (const Test& test : registry()) {
    for (const char* name :
         {"simt_warp_collectives", "simt_lanes_may_part_and_end", "simt_cp_async_", "simt_linear_",
          "simt_grouped_gemm_op", "simt_attention", "simt_top_logits_of", "cuda_device_program"}) {
      if (std::strncmp(test.name, name, std::strlen(name)) != 0) continue;
      test.run();
      ran++;
    }
  }
  EXPECT_MESSAGE(ran >= 14, std::to_string(ran));
}

}  // namespace moepp::simt_test
#endif
