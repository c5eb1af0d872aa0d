// The paper's headline: the throughput of one layer's experts in MoE++ over a vanilla MoE. The
// vanilla MoE has the same FFN experts, top-2, and the same kernels: gate-up GEMM with the gather,
// down GEMM, combine. bench/expert-forward.mjs runs it for the paper's models.
//
//   moepp-native bench expert-forward --hidden=1536 --ffn=4096 --ffn-experts=16 --constants=2
//                                     --tau=0.1,0.75 --tokens=1,512
//                                     [--dtype=bf16|f32|int8|int4] [--device=] [--isa=]
//                                     [--threads=] [--seconds=0.5] [--check]
//
// A pick is an FFN expert with probability tau N / (tau N + Z), with N FFN and Z zero-computation
// experts. In vanilla all picks are, and the combine only adds them. The two take turns. The output
// is one line of JSON per device, number of tokens and tau.
#include "expert_forward.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "bench.h"

namespace moepp::bench {

struct ExpertOptions {
  Options common;
  Sizes sizes;
  std::vector<double> taus = {0.1, 0.25, 0.5, 0.75, 1.0}, tokens = {512};
  DType dtype = DType::kBf16;
};

// The arrays of one routing of a step.
struct Routed {
  Ints offsets, order, rows;
  Floats coefficients;
  double ffn_share;  // of the picks
  int64_t gemm_rows;

  Routed(Run& run, int64_t t, double share, bool vanilla, uint32_t seed)
      : offsets(run, {run.sizes.ffn_experts + 1}),
        order(run, {t, run.sizes.top_k}),
        rows(run, {t, run.sizes.top_k}),
        coefficients(run, {t, run.sizes.constants + 1}) {
    const Sizes& s = run.sizes;
    const Picks picks = draw_picks(t, s.top_k, s.ffn_experts,
                                   vanilla ? 0 : s.experts() - s.ffn_experts, share, seed);
    set(offsets, picks.offsets);
    set(order, picks.order);
    set(rows, picks.rows);
    gemm_rows = picks.offsets.back();
    ffn_share = static_cast<double>(gemm_rows) / static_cast<double>(t * s.top_k);
    // Any zero-computation pick costs at most a copy and one constant vector.
    for (int64_t i = 0; i < t * s.top_k; i++) {
      if (picks.rows[static_cast<size_t>(i)] >= 0) continue;
      float* of_token = coefficients.host() + i / s.top_k * (s.constants + 1);
      of_token[0] = 0.25f;
      of_token[1 + i % s.constants] = 0.5f;
    }
    coefficients.upload();
  }
};

class Layer {
 public:
  Layer(Run& run, DType dtype)
      : run_(run),
        gate_up_(run, dtype, Layout::kGateUp,
                 {run.sizes.ffn_experts, 2 * run.sizes.intermediate, run.sizes.hidden}, 1),
        down_(run, dtype, Layout::kMatrix,
              {run.sizes.ffn_experts, run.sizes.hidden, run.sizes.intermediate}, 2),
        constants_(run, {run.sizes.constants, run.sizes.hidden}, 3),
        norm_(run, {run.sizes.hidden}, 4) {}

  // The buffers of a step of t tokens.
  struct Step {
    Floats residual, x, hidden, expert_out, weights, sum, out;
    Step(Run& run, int64_t t)
        : residual(run, {t, run.sizes.hidden}, 5),
          x(run, {t, run.sizes.hidden}, 6),
          hidden(run, {t, run.sizes.top_k, run.sizes.intermediate}),
          expert_out(run, {t, run.sizes.top_k, run.sizes.hidden}),
          weights(run, {t, run.sizes.top_k}, 7),
          sum(run, {t, run.sizes.hidden}),
          out(run, {t, run.sizes.hidden}) {
      round_to_bf16(x);
    }
  };

  void forward(Step& step, Routed& routed) {
    gate_up(step, routed);
    down(step, routed);
    run_.kernels().combine(combine_args(step, routed), run_.device().queue());
  }

  // Describes the fault of one of its three ops; empty if there is none.
  std::string check(Step& step, Routed& routed) {
    const std::vector<int64_t> rows = test::sample(routed.gemm_rows, 5);
    run_.once([&](int64_t) { gate_up(step, routed); });
    std::string wrong =
        test::check_grouped_gemm(run_.on_host(gate_up_args(step, routed)), rows,
                                 test::sample(run_.sizes.intermediate, 21), gemm_inputs(run_));
    if (!wrong.empty()) return "gate_up: " + wrong;
    round_to_bf16(step.hidden);  // which on_host has fetched
    run_.once([&](int64_t) { down(step, routed); });
    wrong = test::check_grouped_gemm(run_.on_host(down_args(step, routed)), rows,
                                     test::sample(run_.sizes.hidden, 21), gemm_inputs(run_));
    if (!wrong.empty()) return "down: " + wrong;
    run_.once([&](int64_t) {
      run_.kernels().combine(combine_args(step, routed), run_.device().queue());
    });
    wrong = test::check_combine(run_.on_host(combine_args(step, routed)),
                                test::sample(step.x.tensor.shape[0], 9));
    return wrong.empty() ? wrong : "combine: " + wrong;
  }

 private:
  GroupedGemmArgs gate_up_args(Step& step, Routed& r) {
    return {&step.x.tensor,     &r.offsets.tensor,   &r.order.tensor,
            &gate_up_.tensor,   &step.hidden.tensor, 1.0f,
            Activation::kSwiglu};
  }
  GroupedGemmArgs down_args(Step& step, Routed& r) {
    return {&step.hidden.tensor, &r.offsets.tensor,       nullptr,
            &down_.tensor,       &step.expert_out.tensor, 1.0f,
            Activation::kNone};
  }
  CombineArgs combine_args(Step& step, Routed& r) {
    return {&step.residual.tensor,
            nullptr,
            &step.x.tensor,
            &step.expert_out.tensor,
            &r.coefficients.tensor,
            &step.weights.tensor,
            &r.rows.tensor,
            &constants_.tensor,
            &norm_.tensor,
            nullptr,
            &step.sum.tensor,
            &step.out.tensor,
            1e-6f};
  }
  void gate_up(Step& step, Routed& r) {
    run_.kernels().grouped_gemm(gate_up_args(step, r), run_.device().queue());
  }
  void down(Step& step, Routed& r) {
    run_.kernels().grouped_gemm(down_args(step, r), run_.device().queue());
  }

  Run& run_;
  Weight gate_up_, down_;
  Floats constants_, norm_;
};

// Several routings. Each measured piece of work takes all of them, since decode steps differ in the
// experts that they read.
static bool measure(Run& run, Layer& layer, const std::string& device, const ExpertOptions& options,
                    int64_t tokens) {
  const Sizes& s = options.sizes;
  const auto n = static_cast<double>(s.ffn_experts),
             z = static_cast<double>(s.experts() - s.ffn_experts);
  const uint32_t routings = tokens < 64 ? 16 : tokens < 512 ? 8 : 2;
  Layer::Step step(run, tokens);
  std::vector<std::unique_ptr<Routed>> vanilla;
  for (uint32_t i = 0; i < routings; i++)
    vanilla.push_back(std::make_unique<Routed>(run, tokens, 1.0, true, 100 + i));
  for (const double tau : options.taus) {
    std::vector<std::unique_ptr<Routed>> mixed;
    double share = 0.0;
    for (uint32_t i = 0; i < routings; i++) {
      mixed.push_back(std::make_unique<Routed>(run, tokens, tau * n / (tau * n + z), false, i));
      share += mixed.back()->ffn_share / routings;
    }
    for (Routed* routed : {vanilla[0].get(), mixed[0].get()}) {
      const std::string wrong = layer.check(step, *routed);
      if (wrong.empty()) continue;
      std::printf("WRONG: %s\n", wrong.c_str());
      return false;
    }
    const auto all = [&](const std::vector<std::unique_ptr<Routed>>& list) {
      return [&](int64_t) {
        for (const auto& routed : list) layer.forward(step, *routed);
      };
    };
    std::vector<double> seconds = {0.0, 0.0};
    if (!options.common.check_only) seconds = run.compare({all(mixed), all(vanilla)}, 3);
    std::printf(
        "{\"device\":\"%s\",\"tokens\":%lld,\"tau\":%g,\"ffnShare\":%.4f,\"moeppSeconds\":%.9f,"
        "\"vanillaSeconds\":%.9f}\n",
        device.c_str(), static_cast<long long>(tokens), tau, share, seconds[0] / routings,
        seconds[1] / routings);
    std::fflush(stdout);
  }
  return true;
}

static std::vector<double> numbers(const std::string& text) {
  std::vector<double> list;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) list.push_back(std::atof(part.c_str()));
  return list;
}

static bool parse(const std::string& argument, ExpertOptions* options) {
  const size_t equals = argument.find('=');
  const std::string name = argument.substr(0, equals),
                    value = equals == std::string::npos ? "" : argument.substr(equals + 1);
  Sizes& s = options->sizes;
  if (name == "--hidden") {
    s.hidden = integer_of(value);
  } else if (name == "--ffn") {
    s.intermediate = integer_of(value);
  } else if (name == "--ffn-experts") {
    s.ffn_experts = integer_of(value);
  } else if (name == "--constants") {
    s.constants = integer_of(value);
  } else if (name == "--tau") {
    options->taus = numbers(value);
  } else if (name == "--tokens") {
    options->tokens = numbers(value);
  } else if (name == "--device") {
    options->common.device = value;
  } else if (name == "--isa") {
    options->common.isa = value;
  } else if (name == "--threads") {
    options->common.threads = static_cast<int>(integer_of(value));
  } else if (name == "--seconds") {
    options->common.seconds = std::atof(value.c_str());
  } else if (name == "--check") {
    options->common.check_only = true;
  } else if (name == "--dtype") {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI8, DType::kI4}) {
      if (value == dtype_name(dtype)) options->dtype = dtype;
    }
    return value == dtype_name(options->dtype);
  } else {
    return false;
  }
  return true;
}

int run_expert_forward(int argc, char** argv) {
  ExpertOptions options;
  for (int i = 0; i < argc; i++) {
    if (parse(argv[i], &options)) continue;
    std::fprintf(stderr, "moepp-native bench expert-forward: %s is not understood\n", argv[i]);
    return 2;
  }
  bool ok = true;
  try {
    for (const Target& target : targets(options.common)) {
      Run run(target.device, options.sizes, options.common);
      Layer layer(run, options.dtype);
      for (const double tokens : options.tokens)
        ok = ok && measure(run, layer, target.name, options, static_cast<int64_t>(tokens));
    }
  } catch (const Failure& failure) {
    std::fprintf(stderr, "moepp-native: %s%s\n",
                 failure.code == Code::kOutOfMemory ? "does not fit: " : "", failure.what());
    return 1;
  }
  return ok ? 0 : 1;
}

}  // namespace moepp::bench
