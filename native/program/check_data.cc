#include "check_data.h"

#include "letters.h"
#include "weights/quantise.h"

namespace moepp {

static int64_t size(const Tensor* tensor, int dimension) {
  return tensor->shape[dimension];
}

static std::string relation(const RmsNormArgs& a) {
  return a.sum != nullptr && a.delta == nullptr ? "sum needs delta" : "";
}

static std::string relation(const LinearArgs& a) {
  if (a.activation != Activation::kNone && a.activation != Activation::kTanh &&
      a.activation != Activation::kSwiglu)
    return "activation must be none, tanh or swiglu";
  return a.activation == Activation::kSwiglu && a.bias != nullptr ? "swiglu takes no bias" : "";
}

static std::string relation(const RopeTableArgs& a) {
  return a.position_divisor > 0 ? "" : "position_divisor must be positive";
}

static std::string bad_head_dim(const char* what, int64_t dim) {
  if (dim >= 2 && dim % 2 == 0 && dim <= kMostHeadDim) return {};
  return std::string(what) + " " + std::to_string(dim) + " must be even and at most " +
         std::to_string(kMostHeadDim);
}

static std::string relation(const RopeStoreArgs& a) {
  const int64_t head_dim = size(a.q, 2), columns = size(a.qkv, 1);
  const std::string bad = bad_head_dim("the head dim", head_dim);
  if (!bad.empty()) return bad;
  if (size(a.cosine, 1) < 1 || 2 * size(a.cosine, 1) > head_dim)
    return "cosine and sine must have 1 to half of the head dim " + std::to_string(head_dim);
  if (columns <= size(a.q, 1) * head_dim)
    return "qkv must hold keys and values behind the query heads";
  if ((a.q_norm == nullptr) != (a.k_norm == nullptr)) return "q_norm and k_norm come together";
  if (!(a.eps >= 0)) return "eps must not be negative";
  return a.layer < 0 ? "layer must not be negative" : "";
}

static std::string relation(const AttentionArgs& a) {
  const std::string bad = bad_head_dim("the head dim", size(a.q, 2));
  if (!bad.empty()) return bad;
  if (size(a.q, 1) < 1 || size(a.out, 1) % size(a.q, 1) != 0)
    return "out must be [T, Hq * Dv] for q [T, Hq, D]";
  const std::string bad_values =
      bad_head_dim("the values' head dim", size(a.out, 1) / size(a.q, 1));
  if (!bad_values.empty()) return bad_values;
  if (a.window < 0) return "window must not be negative";
  return a.layer < 0 ? "layer must not be negative" : "";
}

static std::string relation(const RouterLogitsArgs& a) {
  return a.constant_router == nullptr ||
                 (size(a.constant_router, 0) > 0 && size(a.constant_router, 0) % 2 == 0)
             ? ""
             : "constant_router must have two rows for each constant expert";
}

static std::string bad_choice(const RouteTopKArgs& a) {
  const int64_t experts = size(a.logits, 1), chosen = size(a.expert_indices, 1);
  if (experts > kMostExperts || chosen < 1 || chosen > kMostChosen || chosen > experts) {
    return "top-k takes 1 to " + std::to_string(kMostChosen) + " of at most " +
           std::to_string(kMostExperts) + " experts";
  }
  // A warp of a GPU has a lane for each group.
  if (a.groups < 1 || a.groups > 32 || experts % a.groups != 0 || a.top_groups < 1 ||
      a.top_groups > a.groups || (a.groups > 1 && experts / a.groups < 2))
    return "groups must be 1 to 32 equal runs of two or more experts, and top_groups among them";
  return {};
}

static std::string relation(const RouteTopKArgs& a) {
  const int64_t constants = a.experts.count(ExpertKind::kConstant),
                ffn = a.experts.count(ExpertKind::kFfn);
  if (a.experts.experts != size(a.logits, 1)) {
    return "experts are " + std::to_string(a.experts.experts) + ", expected " +
           std::to_string(size(a.logits, 1)) + ", as there are logits";
  }
  if (constants > 0 && size(a.constant_scores, 1) != 2 * constants)
    return "constant_scores must be [T, " + std::to_string(2 * constants) + "]";
  if (size(a.coefficients, 1) != constants + 1)
    return "coefficients must be [T, " + std::to_string(constants + 1) + "]";
  if (a.expert_offsets->rank != 1 || size(a.expert_offsets, 0) != ffn + 1)
    return "expert_offsets must be [" + std::to_string(ffn + 1) + "]";
  const std::string broken = bad_choice(a);
  if (!broken.empty()) return broken;
  if (a.scores != Scores::kSoftmax && a.scores != Scores::kSigmoid)
    return "scores must be softmax or sigmoid";
  if (a.masked && a.norm_std != 0) return "norm_std must be 0 with masked experts";
  return a.input_scale > 0 && a.norm_std >= 0 && a.weight_scale > 0
             ? ""
             : "input_scale and weight_scale must be positive and norm_std not negative";
}

static std::string relation(const GroupedGemmArgs& a) {
  if (a.activation != Activation::kNone && a.activation != Activation::kSwiglu)
    return "activation must be none or swiglu";
  if (a.expert_offsets->rank != 1 || size(a.expert_offsets, 0) != size(a.weight, 0) + 1)
    return "expert_offsets must be [N+1] for weight [N, ...]";
  return {};
}

static std::string relation(const CombineArgs& a) {
  const int64_t constants = a.constants != nullptr ? size(a.constants, 0) : 0;
  if (a.constants != nullptr && constants < 1) return "constants must not be empty";
  return size(a.coefficients, 1) == constants + 1
             ? ""
             : "coefficients must be [T, C+1] for constants [C, H]";
}

static std::string relation(const TopLogitsArgs& a) {
  for (const Tensor* top : {a.top_logits, a.top_indices}) {
    if (top != nullptr &&
        (size(top, 1) < 1 || size(top, 1) > 256 || size(top, 1) > size(a.logits, 1)))
      return "the largest logits are 1 to 256, and no more than there are";
  }
  return {};
}

template <class Args>
static std::string relation(const Args&) {
  return {};
}

std::string broken_relation(const AnyArgs& args) {
  return std::visit([](const auto& a) { return relation(a); }, args);
}

std::string broken_weight(const WeightSpec& spec, Layout order) {
  for (const int64_t size : spec.shape) {
    if (size < 0) return ": its shape must be known";
  }
  if (!is_quantised(spec.dtype)) return {};
  const std::string dtype = dtype_name(spec.dtype);
  if (order == Layout::kRows)
    return " is " + dtype + ", but no linear or grouped_gemm reads it; expected f32 or bf16";
  if (spec.shape.back() >= 1 && spec.shape.back() <= kMostQuantisedInputs) return {};
  return " is " + shape_text(spec.shape) + " " + dtype + ", expected rows of 1 to " +
         std::to_string(kMostQuantisedInputs) + " elements";
}

std::string DataChecker::fault(const AnyArgs& args) {
  return std::visit([this](const auto& a) { return fault_of(a); }, args);
}

std::string DataChecker::out_of_range(const char* what, const Tensor* tensor, int64_t limit) {
  if (!is_input_(tensor) || !first_time(tensor, nullptr)) return {};
  const int32_t* values = tensor->i32();
  for (int64_t i = 0; i < tensor->elements(); i++) {
    if (values[i] < 0 || values[i] >= limit) {
      return std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
             ", expected 0 to " + std::to_string(limit - 1);
    }
  }
  return {};
}

std::string DataChecker::bad_starts(const Tensor* sequence_starts, int64_t tokens) {
  if (!is_input_(sequence_starts) || !first_time(sequence_starts, nullptr)) return {};
  const int32_t* starts = sequence_starts->i32();
  const int64_t count = sequence_starts->shape[0];
  if (count < 1 || starts[0] != 0 || starts[count - 1] != tokens)
    return "sequence_starts must go from 0 to " + std::to_string(tokens);
  for (int64_t b = 1; b < count; b++) {
    if (starts[b] < starts[b - 1]) return "sequence_starts must not descend";
  }
  return {};
}

std::string DataChecker::bad_pages(const Tensor* positions, const Tensor* starts,
                                   const Tensor* page_table, const KvView& cache) {
  if (starts->shape[0] != page_table->shape[0] + 1)
    return "page_table must have one row for each sequence";
  const std::string bad = bad_starts(starts, positions->shape[0]);
  if (!bad.empty() || !first_time(positions, page_table)) return bad;
  const int64_t columns = page_table->shape[1];
  for (int64_t b = 0; b < page_table->shape[0]; b++) {
    int64_t pages = 0;
    for (int32_t t = starts->i32()[b]; t < starts->i32()[b + 1]; t++) {
      const int64_t position = positions->i32()[t];
      if (position < 0 || position / cache.page_size >= columns) {
        return "positions[" + std::to_string(t) + "] is " + std::to_string(position) +
               ", expected 0 to " + std::to_string(columns * cache.page_size - 1);
      }
      if (position / cache.page_size >= pages) pages = position / cache.page_size + 1;
    }
    for (int64_t m = 0; m < pages; m++) {
      const int32_t page = page_table->i32()[b * columns + m];
      if (page < 0 || page >= cache.pages) {
        return "page_table[" + std::to_string(b) + "][" + std::to_string(m) + "] is " +
               std::to_string(page) + ", expected 0 to " + std::to_string(cache.pages - 1);
      }
    }
  }
  return {};
}

std::string DataChecker::fault_of(const EmbeddingArgs& a) {
  return out_of_range("tokens", a.tokens, a.table->shape[0]);
}

std::string DataChecker::fault_of(const RopeTableArgs& a) {
  if (a.sequence_starts->shape[0] != a.frequencies->shape[0] + 1)
    return "frequencies must have one row for each sequence";
  return bad_starts(a.sequence_starts, a.positions->shape[0]);
}

static std::string cache_text(const KvView& cache) {
  return "the kv cache has " + std::to_string(cache.layers) + " layers of " +
         std::to_string(cache.kv_heads) + " heads with keys of " + std::to_string(cache.key_dim) +
         " and values of " + std::to_string(cache.value_dim);
}

std::string DataChecker::fault_of(const RopeStoreArgs& a) {
  const KvView& kv = *a.cache;
  const int64_t heads = size(a.q, 1), head_dim = size(a.q, 2), columns = size(a.qkv, 1);
  if (kv.key_dim != head_dim || a.layer >= kv.layers || heads % kv.kv_heads != 0 ||
      columns != heads * head_dim + kv.kv_heads * (kv.key_dim + kv.value_dim)) {
    return cache_text(kv) + ", which does not fit layer " + std::to_string(a.layer) + ", " +
           std::to_string(heads) + " query heads of " + std::to_string(head_dim) + " and qkv of " +
           std::to_string(columns) + " columns";
  }
  return bad_pages(a.positions, a.sequence_starts, a.page_table, *a.cache);
}

std::string DataChecker::fault_of(const AttentionArgs& a) {
  const KvView& kv = *a.cache;
  const int64_t heads = size(a.q, 1);
  if (kv.key_dim != size(a.q, 2) || a.layer >= kv.layers || heads % kv.kv_heads != 0 ||
      size(a.out, 1) != heads * kv.value_dim) {
    return cache_text(kv) + ", which does not fit layer " + std::to_string(a.layer) + ", " +
           std::to_string(heads) + " query heads of " + std::to_string(size(a.q, 2)) +
           " and out of " + std::to_string(size(a.out, 1)) + " columns";
  }
  return bad_pages(a.positions, a.sequence_starts, a.page_table, *a.cache);
}

std::string DataChecker::fault_of(const GatherRowsArgs& a) {
  return out_of_range("rows", a.rows, a.x->shape[0]);
}

std::string DataChecker::fault_of(const GroupedGemmArgs& a) {
  const int64_t picks = a.out->shape[0] * a.out->shape[1];
  if (is_input_(a.expert_offsets)) {
    const int32_t* offsets = a.expert_offsets->i32();
    const int64_t experts = a.weight->shape[0];
    if (offsets[0] != 0 || offsets[experts] > picks)
      return "expert_offsets must go from 0 to at most " + std::to_string(picks);
    for (int64_t n = 0; n < experts; n++) {
      if (offsets[n + 1] < offsets[n]) return "expert_offsets must not descend";
    }
  }
  return a.token_order == nullptr ? std::string()
                                  : out_of_range("token_order", a.token_order, picks);
}

std::string DataChecker::fault_of(const CombineArgs& a) {
  if (!is_input_(a.expert_rows)) return {};
  const int64_t picks = a.expert_rows->elements();
  for (int64_t i = 0; i < picks; i++) {
    const int32_t row = a.expert_rows->i32()[i];
    if (row < -1 || row >= picks)
      return "expert_rows[" + std::to_string(i) + "] is " + std::to_string(row) +
             ", expected -1 to " + std::to_string(picks - 1);
  }
  return {};
}

}  // namespace moepp
