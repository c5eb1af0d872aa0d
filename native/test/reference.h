// The checks of ops against their references, for whole steps and fused ops. ops/<op>.cc defines
// them. Each computes the op in f64, as plainly as its contract reads, with a bound on an f32
// kernel's error. It returns the differences in the outputs, or nothing.
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "compare.h"
#include "device.h"

namespace moepp::test {

using Tokens = std::vector<int64_t>;  // the rows to check

inline Tokens all(int64_t n) {
  Tokens tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

inline double value(const float* p, int64_t i) {
  return static_cast<double>(p[i]);
}
// A difference with its place, or "" where there is none.
inline std::string at(const char* field, int64_t row, const std::string& difference) {
  return difference.empty() ? difference
                            : std::string(field) + "[" + std::to_string(row) + "]" + difference;
}

// out = sum / sqrt(mean(sum^2) + eps) * weight, for one row of sums that are known to within a
// tolerance each.
std::vector<Bounded> normalise(const std::vector<Bounded>& sum, const float* weight, double eps);

std::string check_embedding(const EmbeddingArgs& args, const Tokens& tokens);
std::string check_rms_norm(const RmsNormArgs& args, const Tokens& tokens);
std::string check_rope_table(const RopeTableArgs& args, const Tokens& tokens);
// q, and the keys and values of the tokens; what else the cache holds is not looked at.
std::string check_rope_store(const RopeStoreArgs& args, const Tokens& tokens);
// A kernel's freedoms in attention. One is the number of keys between two changes of the running
// maximum. The others are the rounding of its weights before they are summed, and of its queries.
struct AttentionErrors {
  int64_t keys = 0;
  double weight_roundoff = 0.0, query_roundoff = 0.0;
};
// The sizes of keys and values that a GPU's tensor cores take.
bool fit_tensor_cores(int64_t d, int64_t values);
constexpr int64_t kMlaDim = 576;  // of latents that they take, with values of 512
AttentionErrors attention_errors(const Device& device, const KvView& cache);
std::string check_attention(const AttentionArgs& args, const Tokens& tokens,
                            const AttentionErrors& errors);
std::string check_router_logits(const RouterLogitsArgs& args, const Tokens& tokens);
// All tokens: the rows of a token depend on the others. Logits must be finite.
std::string check_route_top_k(const RouteTopKArgs& args);
// sum and out of the tokens, and what the router and top-k gating make of the `out` and the logits
// that are there.
std::string check_norm_route_top_k(const NormRouteTopKArgs& args, const Tokens& tokens);
std::string check_combine(const CombineArgs& args, const Tokens& tokens);
std::string check_gather_rows(const GatherRowsArgs& args);
std::string check_top_logits(const TopLogitsArgs& args);

}  // namespace moepp::test
