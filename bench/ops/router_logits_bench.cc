#include "shapes.h"

namespace moepp::bench {

// Weights of all 24 layers in turn: a decode step finds them in memory, or in a cache that the layers share.
MOEPP_BENCH(router_logits) {
  constexpr int64_t kLayers = 24, kScores = 2 * kConstants;
  Floats router({kLayers * kExperts, kHidden}, 1), map({kExperts, kExperts}, 2), constant({kLayers * kScores, kHidden}, 3);
  for (int64_t t : kStepTokens) {
    Floats x({t, kHidden}, 4), previous({t, kExperts}, 5), logits({t, kExperts}, 6), scores({t, kScores}, 7);
    Tensor rt = test::tensor(router.data, DType::kF32, {kExperts, kHidden});
    Tensor ct = test::tensor(constant.data, DType::kF32, {kScores, kHidden});
    const RouterLogitsArgs args = {&x.tensor, nullptr, &previous.tensor, &rt, &map.tensor, &ct, &logits.tensor, &scores.tensor};
    const auto call = [&](int64_t i) {
      rt.data = router.data + i % kLayers * kExperts * kHidden;
      ct.data = constant.data + i % kLayers * kScores * kHidden;
      run.isa.kernels->router_logits(args, run.pool);
    };
    call(0);
    const double products = static_cast<double>(t * ((kExperts + kScores) * kHidden + kExperts * kExperts));
    run.row(
        {"router_logits 1536 -> 20 + 4", "f32", t, static_cast<double>(4 * (kExperts + kScores + t) * kHidden), 2.0 * products},
        test::check_router_logits(args, test::sample(t, 50)), call);
  }
}

}  // namespace moepp::bench
