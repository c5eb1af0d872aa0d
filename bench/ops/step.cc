#include "step.h"

#include <cmath>
#include <cstring>

namespace moepp::bench {

using test::sample;

Tensor* Step::rows(const Tensor& tensor, int64_t row, int64_t count) {
  Tensor& part = tensors_.emplace_back(tensor);
  const int64_t bytes = tensor.elements() / tensor.shape[0] * dtype_size(tensor.dtype);
  part.data = static_cast<std::byte*>(tensor.data) + row * bytes;
  part.shape[0] = count;
  return &part;
}

Tensor* Step::copy(const Weight& weight, int64_t i) {
  Tensor& one = tensors_.emplace_back(weight.tensor);
  one.data = weight.copy(i);
  return &one;
}

void Step::enqueue() const {
  for (const Op& op : ops_) run.part(op.name, op.enqueue);
}

std::string Step::check() {
  for (const Op& op : ops_) {
    run.once([&](int64_t) { op.enqueue(); });
    const std::string wrong = op.check ? op.check() : std::string();
    if (!wrong.empty()) return op.name + ": " + wrong;
    if (op.rounded != nullptr) round_to_bf16(*op.rounded);  // the check has fetched it
  }
  return {};
}

std::string Step::check_order(const std::vector<const Floats*>& results) {
  std::vector<std::vector<float>> together;
  run.once([&](int64_t) { enqueue(); });
  run.fetch();
  for (const Floats* result : results)
    together.emplace_back(result->host(), result->host() + result->tensor.elements());
  for (const Op& op : ops_) run.once([&](int64_t) { op.enqueue(); });
  run.fetch();
  for (size_t i = 0; i < results.size(); i++) {
    const float *one = results[i]->host(), *other = together[i].data();
    for (size_t j = 0; j < together[i].size(); j++) {
      if (std::memcmp(one + j, other + j, sizeof(float)) == 0) continue;
      return "result " + std::to_string(i) + "[" + std::to_string(j) + "] is " +
             std::to_string(other[j]) + " with the ops one behind the other, " +
             std::to_string(one[j]) + " with one at a time";
    }
  }
  return {};
}

MoeWeights::MoeWeights(Run& run, int64_t layers)
    : gate_up(run, DType::kBf16, Layout::kGateUp,
              {run.sizes.ffn_experts, 2 * run.sizes.intermediate, run.sizes.hidden}, 1, layers),
      down(run, DType::kBf16, Layout::kMatrix,
           {run.sizes.ffn_experts, run.sizes.hidden, run.sizes.intermediate}, 2, layers),
      norm(run, {run.sizes.hidden}, 3),
      router(run, {layers * run.sizes.experts(), run.sizes.hidden}, 4),
      map(run, {run.sizes.experts(), run.sizes.experts()}, 5, 0.1f),
      constant_router(run, {layers * 2 * run.sizes.constants, run.sizes.hidden}, 6),
      constants(run, {run.sizes.constants, run.sizes.hidden}, 7) {}

MoeBuffers::MoeBuffers(Run& run, int64_t t, int64_t layers)
    : tokens(t),
      sum(run, {t, run.sizes.hidden}),
      normed(run, {t, run.sizes.hidden}),
      logits(run, {t, run.sizes.experts()}),
      previous(run, {t, run.sizes.experts()}),
      scores(run, {t, 2 * run.sizes.constants}),
      weights(run, {t, run.sizes.top_k}),
      coefficients(run, {t, run.sizes.constants + 1}),
      hidden(run, {t, run.sizes.top_k, run.sizes.intermediate}),
      expert_out(run, {t, run.sizes.top_k, run.sizes.hidden}),
      x(run, {t, run.sizes.hidden}),
      y(run, {t, run.sizes.hidden}),
      indices(run, {t, run.sizes.top_k}),
      offsets(run, {layers, run.sizes.ffn_experts + 1}),
      order(run, {t, run.sizes.top_k}),
      rows(run, {t, run.sizes.top_k}) {}

MoeBuffers::Routed MoeBuffers::routed(Run& run) const {
  run.fetch();
  const int64_t layers = offsets.tensor.shape[0], n = offsets.tensor.shape[1] - 1;
  Routed routed;
  for (int64_t layer = 0; layer < layers; layer++) {
    const int32_t* of_layer = offsets.host() + layer * (n + 1);
    for (int64_t i = 0; i < n; i++) routed.experts += of_layer[i + 1] > of_layer[i] ? 1 : 0;
    routed.rows += of_layer[n];
  }
  return routed;
}

double expert_bytes(Run& run, const MoeWeights& weights) {
  return static_cast<double>(weights.gate_up.bytes() + weights.down.bytes()) /
         static_cast<double>(run.sizes.ffn_experts);
}

double expert_flops(const Sizes& sizes) {
  return 2.0 * 3.0 * static_cast<double>(sizes.hidden * sizes.intermediate);
}

std::string check_some(const LinearArgs& args) {
  return test::check_linear(args, sample(args.x->shape[0], 5), sample(args.out->shape[1], 21));
}

static std::string check_gemm(const GroupedGemmArgs& args) {
  const int64_t groups = args.weight->shape[0], columns = args.out->shape[2];
  return test::check_grouped_gemm(args, sample(args.expert_offsets->as<int32_t>()[groups], 5),
                                  sample(columns, 21));
}

void add_moe_layer(Step& step, const MoeWeights& w, MoeBuffers& b, int64_t layer, const Tensor& x,
                   const Tensor& delta, bool checked, const LinearArgs* before) {
  const Sizes& s = step.run.sizes;
  const Kernels& kernels = step.run.kernels();
  const int64_t e = s.experts(), constant_rows = 2 * s.constants;
  Floats &logits = layer % 2 == 0 ? b.logits : b.previous,
         &previous = layer % 2 == 0 ? b.previous : b.logits;
  NormRouteTopKArgs route = {};
  route.norm = {step.rows(x, 0, b.tokens),
                step.rows(delta, 0, b.tokens),
                &w.norm.tensor,
                &b.sum.tensor,
                &b.normed.tensor,
                1e-6f};
  route.router.x = &b.normed.tensor;
  route.router.router = step.rows(w.router.tensor, layer * e, e);
  route.router.constant_router =
      step.rows(w.constant_router.tensor, layer * constant_rows, constant_rows);
  if (layer > 0)
    route.router.previous_logits = &previous.tensor, route.router.residual_map = &w.map.tensor;
  route.router.logits = &logits.tensor, route.router.constant_scores = &b.scores.tensor;
  Tensor& offsets = *step.rows(b.offsets.tensor, layer, s.ffn_experts + 1);
  offsets.rank = 1;
  route.route.logits = &logits.tensor, route.route.constant_scores = &b.scores.tensor;
  route.route.expert_indices = &b.indices.tensor, route.route.expert_weights = &b.weights.tensor;
  route.route.coefficients = &b.coefficients.tensor, route.route.expert_offsets = &offsets;
  route.route.token_order = &b.order.tensor, route.route.expert_rows = &b.rows.tensor;
  route.route.experts = s.router().runs();
  route.route.drop_zero = true, route.route.norm_std = 1.0f;
  const GroupedGemmArgs gate_up = {
      &b.normed.tensor, &offsets, &b.order.tensor,    step.copy(w.gate_up, layer),
      &b.hidden.tensor, 1.0f,     Activation::kSwiglu};
  const GroupedGemmArgs down = {
      &b.hidden.tensor,     &offsets, nullptr,          step.copy(w.down, layer),
      &b.expert_out.tensor, 1.0f,     Activation::kNone};
  const CombineArgs combine = {&b.sum.tensor,
                               nullptr,
                               &b.normed.tensor,
                               &b.expert_out.tensor,
                               &b.coefficients.tensor,
                               &b.weights.tensor,
                               &b.rows.tensor,
                               &w.constants.tensor,
                               &w.norm.tensor,
                               nullptr,
                               &b.x.tensor,
                               &b.y.tensor,
                               1e-6f};
  const std::string scope = "layer " + std::to_string(layer) + " ";
  const auto some = [t = b.tokens] { return sample(t, 9); };
  const auto check_route = [=](const NormRouteTopKArgs& a) {
    return test::check_norm_route_top_k(a, some());
  };
  if (before == nullptr || kernels.linear_norm_route_top_k == nullptr) {
    if (before != nullptr) step.add(scope + "o", kernels.linear, *before, checked, &check_some);
    step.add(scope + "norm_route_top_k", kernels.norm_route_top_k, route, checked, check_route,
             &b.normed);
  } else {
    step.add(
        scope + "linear_norm_route_top_k", kernels.linear_norm_route_top_k,
        LinearNormRouteTopKArgs{*before, route}, checked,
        [=](const LinearNormRouteTopKArgs& a) {
          const std::string wrong = check_some(a.linear);
          return wrong.empty() ? check_route(a.rest) : wrong;
        },
        &b.normed);
  }
  step.add(scope + "gate_up", kernels.grouped_gemm, gate_up, checked, &check_gemm, &b.hidden);
  const auto check_sum = [=](const CombineArgs& a) { return test::check_combine(a, some()); };
  if (kernels.grouped_gemm_combine == nullptr) {
    step.add(scope + "down", kernels.grouped_gemm, down, checked, &check_gemm);
    return step.add(scope + "combine", kernels.combine, combine, checked, check_sum, &b.y);
  }
  step.add(
      scope + "grouped_gemm_combine", kernels.grouped_gemm_combine,
      GroupedGemmCombineArgs{down, combine}, checked,
      [=](const GroupedGemmCombineArgs& a) {
        const std::string wrong = check_gemm(a.gemm);
        return wrong.empty() ? check_sum(a.combine) : wrong;
      },
      &b.y);
}

}  // namespace moepp::bench
