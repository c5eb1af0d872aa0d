// Every line of gemm.inc is a kernel that linear and grouped_gemm run.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cpu/isa/isa.h"
#include "reference_gemm.h"
#include "test.h"
#include "weights/panels.h"

namespace moepp::test {

using cpu::GemmArgs;
using cpu::GemmInputs;

struct Line {
  const char* set;
  DType weights;
  GemmInputs x;
};
static const Line kLines[] = {
#define MOEPP_GEMM(set, weights, x, function) {#set, DType::weights, GemmInputs::x},
#include "cpu/gemm.inc"
#undef MOEPP_GEMM
};

static cpu::GemmFunction function_of(const cpu::Isa& isa, const Line& line) {
  cpu::Gemms gemms = *isa.gemms;
  return cpu::gemm_slot(gemms, line.weights, line.x);
}

MOEPP_TEST(every_gemm_of_the_list_is_run) {
  constexpr int64_t kRows = 21, kInputs = 130, kColumns = 75;
  ThreadPool pool(2);
  std::set<std::pair<cpu::GemmFunction, DType>> taken;
  for (const Line& line : kLines) {
    for (const cpu::Isa& isa : cpu::available_isas()) {
      if (line.set != std::string(isa.name)) continue;
      const std::string label = std::string(line.set) + ", " + dtype_name(line.weights);
      const bool rounds = line.x == GemmInputs::kRounded;
      Guarded<float> x(kRows * kInputs), out(kRows * kColumns), direct(kRows * kColumns),
          weight(panel_count(Layout::kMatrix, kColumns) * panel_bytes(line.weights, kInputs) / 4);
      fill(x.data(), x.size(), 1);
      fill_panels(weight.data(), line.weights, Layout::kMatrix, 1, kColumns, kInputs, 2, 1.0f);
      const Tensor xt = tensor(x.data(), DType::kF32, {kRows, kInputs}),
                   wt = tensor(weight.data(), line.weights, {kColumns, kInputs}, Layout::kMatrix);
      Tensor ot = tensor(out.data(), DType::kF32, {kRows, kColumns});
      const LinearArgs args = {&xt, &wt, &ot, Activation::kNone, rounds};
      isa.kernels->linear(args, pool);
      const GemmKind kind = {line.weights, rounds};
      const std::string wrong = check_linear(args, sample(kRows, kRows), sample(kColumns, kColumns),
                                             kind.inputs(isa, kInputs));
      EXPECT_MESSAGE(wrong.empty(), label + ": " + wrong);

      const cpu::GemmFunction function = function_of(isa, line);
      EXPECT_MESSAGE(function != nullptr, label + ": there is no kernel");
      if (function == nullptr) continue;
      EXPECT_MESSAGE(taken.insert({function, line.weights}).second,
                     label + ": is another set's kernel");
      const int32_t offsets[2] = {0, kRows};
      GemmArgs gemm = {};
      gemm.x = x.data();
      gemm.offsets = offsets;
      gemm.groups = gemm.picks_per_row = 1;
      gemm.weight = wt.as<char>();
      gemm.dtype = line.weights;
      gemm.k = kInputs;
      gemm.panels = panel_count(Layout::kMatrix, kColumns);
      gemm.out = direct.data();
      gemm.columns = kColumns;
      gemm.scale = 1.0f;
      function(gemm, pool);
      EXPECT_MESSAGE(same_bits(out.data(), direct.data(), kRows * kColumns * 4),
                     label + ": linear ran another kernel");
    }
  }
}

}  // namespace moepp::test
