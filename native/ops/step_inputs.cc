#include "step_inputs.h"

namespace moepp {

std::string StepInputs::out_of_range(const char* what, const Tensor* tensor, int64_t limit) {
  if (!has(tensor) || !first_time(tensor, nullptr)) return {};
  const int32_t* values = tensor->i32();
  for (int64_t i = 0; i < tensor->elements(); i++) {
    if (values[i] < 0 || values[i] >= limit) {
      return std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
             ", expected 0 to " + std::to_string(limit - 1);
    }
  }
  return {};
}

std::string StepInputs::bad_starts(const Tensor* sequence_starts, int64_t tokens) {
  if (!has(sequence_starts) || !first_time(sequence_starts, nullptr)) return {};
  const int32_t* starts = sequence_starts->i32();
  const int64_t count = sequence_starts->shape[0];
  if (count < 1 || starts[0] != 0 || starts[count - 1] != tokens)
    return "sequence_starts must go from 0 to " + std::to_string(tokens);
  for (int64_t b = 1; b < count; b++) {
    if (starts[b] < starts[b - 1]) return "sequence_starts must not descend";
  }
  return {};
}

std::string StepInputs::bad_pages(const Tensor* positions, const Tensor* starts,
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

}  // namespace moepp
