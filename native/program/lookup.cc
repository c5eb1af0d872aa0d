#include "lookup.h"

#include "program.h"

namespace moepp {

Status Lookup::open(const LookupSpec& spec, Lookup* lookup) {
  if (spec.table.shape.size() != 2 || spec.table.shape[0] < 1 || spec.table.shape[1] < 1) {
    return Status::error(Code::kBadProgram,
                         spec.label + ": " + spec.table.name + " must be a matrix", spec.label);
  }
  lookup->spec_ = spec;
  MOEPP_CHECK(StackedRows::open(spec.table, &lookup->table_));
  lookup->table_.expect_scattered();
  return {};
}

Status Lookup::read(const int32_t* rows, int64_t count, float* out) const {
  for (int64_t i = 0; i < count; i++) {
    if (rows[i] < 0 || rows[i] >= table_.count()) {
      return Status::error(Code::kBadProgram,
                           spec_.label + ": " + spec_.rows + "[" + std::to_string(i) + "] is " +
                               std::to_string(rows[i]) + ", expected 0 to " +
                               std::to_string(table_.count() - 1),
                           spec_.label);
    }
    table_.fetch(rows[i]);
  }
  for (int64_t i = 0; i < count; i++) {
    auto* to = reinterpret_cast<std::byte*>(out + i * width());
    if (!convert_row(table_.row(rows[i]), 0, width(), DType::kF32, to))
      return not_finite(spec_.table, rows[i]);
  }
  return {};
}

// Reads the rows of the step, which are inputs as others are.
Status Program::look_up(std::map<std::string, HostBuffer>* inputs, const Sizes& sizes) {
  for (LookedUp& lookup : lookups_) {
    const LookupSpec& spec = lookup.table.spec();
    const auto rows = inputs->find(spec.rows);
    const int64_t per_token = buffers_[lookup.rows]->shape[1], count = sizes.tokens * per_token;
    const bool is_given = rows != inputs->end();
    if (!is_given || rows->second.bytes != count * 4) {
      return Status::error(Code::kBadProgram,
                           "input " + spec.rows +
                               (is_given ? " has " + std::to_string(rows->second.bytes) +
                                               " bytes, expected " + std::to_string(count * 4)
                                         : " is missing"));
    }
    lookup.values.resize(static_cast<size_t>(count * lookup.table.width()));
    MOEPP_CHECK(lookup.table.read(static_cast<const int32_t*>(rows->second.data), count,
                                  lookup.values.data()));
    (*inputs)[spec.out] = {lookup.values.data(), static_cast<int64_t>(lookup.values.size()) * 4};
  }
  return {};
}

}  // namespace moepp
