// A whole step that gives each of several sequences its next token.
#include <cmath>

#include "step.h"

namespace moepp::bench {

using test::sample;

// Rows of the embedding table that steps read: far fewer than a vocabulary, for a step reads one
// for each token.
static constexpr int64_t kTableRows = 1024;

DecodeWeights::DecodeWeights(Run& run, int64_t layers)
    : layers(layers),
      moe(run, layers),
      qkv(run, DType::kBf16, Layout::kMatrix,
          {3 * run.sizes.heads * run.sizes.head_dim, run.sizes.hidden}, 11, layers),
      o(run, DType::kBf16, Layout::kMatrix,
        {run.sizes.hidden, run.sizes.heads * run.sizes.head_dim}, 12, layers),
      head(run, DType::kBf16, Layout::kMatrix, {run.sizes.vocabulary, run.sizes.hidden}, 13),
      table(run, {kTableRows, run.sizes.hidden}, 14) {}

static std::vector<test::SequenceSpec> sequences_of(int64_t batch, int64_t context) {
  return std::vector<test::SequenceSpec>(static_cast<size_t>(batch), {context - 1, 1});
}

DecodeStep::DecodeStep(Run& run, const DecodeWeights& weights, int64_t batch, int64_t context)
    : run_(run),
      weights_(weights),
      context_(context),
      paged_(sequences_of(batch, context), run.sizes.page_size),
      ints_(run, paged_),
      cache_(run, {nullptr, DType::kBf16, weights.layers, paged_.pages, run.sizes.page_size,
                   run.sizes.heads, run.sizes.head_dim, run.sizes.head_dim}),
      moe_(run, batch, weights.layers),
      frequencies_(run, {batch, run.sizes.head_dim / 2}, 21),
      cosine_(run, {batch, run.sizes.head_dim / 2}),
      sine_(run, {batch, run.sizes.head_dim / 2}),
      qkv_(run, {batch, 3 * run.sizes.heads * run.sizes.head_dim}),
      q_(run, {batch, run.sizes.heads, run.sizes.head_dim}),
      attended_(run, {batch, run.sizes.heads * run.sizes.head_dim}),
      delta_(run, {batch, run.sizes.hidden}),
      last_(run, {batch, run.sizes.hidden}),
      logits_(run, {batch, run.sizes.vocabulary}),
      top_(run, {batch, run.sizes.top_logits}),
      exp_sum_(run, {batch}),
      tokens_(run, {batch}),
      rows_(run, {batch}),
      top_indices_(run, {batch, run.sizes.top_logits}),
      step_(run) {
  for (int64_t b = 0; b < batch; b++) {
    tokens_.host()[b] = static_cast<int32_t>(b * 37 % kTableRows);
    rows_.host()[b] = static_cast<int32_t>(b);
  }
  tokens_.upload();
  rows_.upload();
  const Kernels& kernels = run.kernels();
  const auto some = [batch] { return sample(batch, 9); };
  const RopeTableArgs rope = {&ints_.positions.tensor, &ints_.starts.tensor, &frequencies_.tensor,
                              &cosine_.tensor,         &sine_.tensor,        1.0f};
  step_.add("rope_table", kernels.rope_table, rope, true,
            [=](const RopeTableArgs& a) { return test::check_rope_table(a, some()); });
  step_.add("embedding", kernels.embedding,
            EmbeddingArgs{&tokens_.tensor, &weights.table.tensor, nullptr, &moe_.x.tensor, 1.0f},
            true, [=](const EmbeddingArgs& a) { return test::check_embedding(a, some()); });
  const RmsNormArgs norm = {&moe_.x.tensor, nullptr,        &weights.moe.norm.tensor,
                            nullptr,        &moe_.y.tensor, 1e-6f};
  step_.add(
      "rms_norm", kernels.rms_norm, norm, true,
      [=](const RmsNormArgs& a) { return test::check_rms_norm(a, some()); }, &moe_.y);
  for (int64_t layer = 0; layer < weights.layers; layer++) {
    const LinearArgs o = add_attention(layer);
    // The first layer has no previous logits; those from the second on are alike.
    add_moe_layer(step_, weights.moe, moe_, layer, moe_.x.tensor, delta_.tensor, layer < 2, &o);
  }
  step_.add("gather_rows", kernels.gather_rows,
            GatherRowsArgs{&moe_.y.tensor, &rows_.tensor, &last_.tensor}, true,
            &test::check_gather_rows, &last_);
  step_.add("head", kernels.linear,
            LinearArgs{&last_.tensor, &weights.head.tensor, &logits_.tensor, Activation::kNone},
            true, [=](const LinearArgs& a) {
              return test::check_linear(a, some(), sample(a.out->shape[1], 41));
            });
  step_.add("top_logits", kernels.top_logits,
            TopLogitsArgs{&logits_.tensor, &top_.tensor, &top_indices_.tensor, &exp_sum_.tensor},
            true, &test::check_top_logits);
}

LinearArgs DecodeStep::add_attention(int64_t layer) {
  const Kernels& kernels = run_.kernels();
  const auto of_layer = static_cast<int32_t>(layer);
  const LinearArgs qkv = {&moe_.y.tensor, step_.copy(weights_.qkv, layer), &qkv_.tensor,
                          Activation::kNone};
  const RopeStoreArgs store = {&qkv_.tensor,
                               &cosine_.tensor,
                               &sine_.tensor,
                               &ints_.positions.tensor,
                               &ints_.starts.tensor,
                               &ints_.page_table.tensor,
                               &cache_.view,
                               &q_.tensor,
                               of_layer};
  const AttentionArgs attention = {&q_.tensor,
                                   &ints_.positions.tensor,
                                   &ints_.starts.tensor,
                                   &ints_.page_table.tensor,
                                   &cache_.view,
                                   &attended_.tensor,
                                   of_layer,
                                   1.0f / std::sqrt(static_cast<float>(run_.sizes.head_dim))};
  const bool checked = layer < 2;
  const int64_t batch = paged_.tokens;
  const auto check_store = [=](const RopeStoreArgs& a) {
    return test::check_rope_store(a, sample(batch, 9));
  };
  if (kernels.linear_rope_store == nullptr) {
    step_.add("qkv", kernels.linear, qkv, checked, &check_some);
    step_.add("rope_store", kernels.rope_store, store, checked, check_store, &q_);
  } else {
    step_.add(
        "linear_rope_store", kernels.linear_rope_store, LinearRopeStoreArgs{qkv, store}, checked,
        [=](const LinearRopeStoreArgs& a) {
          const std::string wrong = check_some(a.linear);
          return wrong.empty() ? check_store(a.store) : wrong;
        },
        &q_);
  }
  step_.add(
      "attention", kernels.attention, attention, checked,
      [this, batch](const AttentionArgs& a) {
        return test::check_attention(a, sample(batch, 3),
                                     attention_errors(run_.device(), *a.cache));
      },
      &attended_);
  return {&attended_.tensor, step_.copy(weights_.o, layer), &delta_.tensor, Activation::kNone};
}

std::string DecodeStep::check() {
  const std::string wrong = step_.check();
  return wrong.empty() ? check_order() : wrong;
}

Row DecodeStep::row() const {
  const Sizes& s = run_.sizes;
  const int64_t batch = paged_.tokens, layers = weights_.layers, width = s.heads * s.head_dim;
  const MoeBuffers::Routed routed = moe_.routed(run_);
  const double dense_bytes = static_cast<double>(
                   layers * (weights_.qkv.bytes() + weights_.o.bytes()) + weights_.head.bytes()),
               router_bytes =
                   4.0 * static_cast<double>(layers * (s.experts() + 2 * s.constants) * s.hidden),
               cache_bytes = 2.0 * static_cast<double>(layers * batch * context_ * width *
                                                       dtype_size(DType::kBf16)),
               dense = static_cast<double>(layers * 4 * width * s.hidden + s.vocabulary * s.hidden);
  Row row = {
      "decode, context " + std::to_string(context_) + ", " + std::to_string(layers) + " layers",
      DType::kBf16,
      batch,
      {}};
  row.bytes.read = dense_bytes + router_bytes + cache_bytes +
                   static_cast<double>(routed.experts) * expert_bytes(run_, weights_.moe);
  row.flops =
      2.0 * static_cast<double>(batch) * dense + static_cast<double>(routed.rows) * expert_flops(s);
  return row;
}

}  // namespace moepp::bench
