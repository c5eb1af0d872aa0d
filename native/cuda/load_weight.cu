// Loading weights (load_weight.h). No kernels: host code, which the emulation runs, too.
#include "cuda/load_weight.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "cuda/weight_layout.h"
#include "host/thread_pool.h"
#include "weights/packed_blocks.h"
#include "weights/stacked_rows.h"

namespace moepp::cuda {

namespace {

// [groups, rows, inputs] of what may have fewer dimensions.
struct WeightShape {
  int64_t groups, rows, inputs;
  explicit WeightShape(const WeightSpec& spec) {
    const size_t rank = spec.shape.size();
    groups = rank == 3 ? spec.shape[0] : 1;
    rows = rank >= 2 ? spec.shape[rank - 2] : 1;
    inputs = rank >= 1 ? spec.shape[rank - 1] : 1;
  }
};

int64_t rows_at_once(int64_t row_bytes) {
  return std::max<int64_t>(1, Staging::kBytes / std::max<int64_t>(1, row_bytes));
}

// f32 and bf16, a stretch of rows at a time.
Status load_floats(const Loading& to, const StackedRows& rows) {
  const DType dtype = to.spec.dtype;
  WeightShape shape(to.spec);
  if (to.layout == Layout::kRows) {  // a vector of several parts has an element in each row
    shape.groups = 1;
    shape.rows = rows.count();
    shape.inputs = rows.length();
  }
  const int64_t size = dtype_size(dtype), used = shape.inputs * size;
  const int64_t pitch =
      to.layout == Layout::kRows ? used : weight_pitch(dtype, shape.inputs) * size;
  const int64_t group_rows = weight_rows(to.layout, shape.rows), total = shape.groups * group_rows;
  const int64_t at_once = rows_at_once(pitch);
  for (int64_t first = 0; first < total; first += at_once) {
    MOEPP_CHECK(to.cancelled());
    const int64_t last = std::min(total, first + at_once);
    std::byte* staged = nullptr;
    MOEPP_CHECK(to.check(to.staging.next((last - first) * pitch, &staged)));
    std::byte* at = staged;
    for (int64_t place = first; place < last; place++, at += pitch) {
      const int64_t group = place / group_rows,
                    row = weight_row_at(to.layout, shape.rows, place % group_rows);
      if (row >= 0) {
        const int64_t index = group * shape.rows + row;
        if (!convert_row(rows.row(index), 0, shape.inputs, dtype, at))
          return not_finite(to.spec, index);
      }
      std::memset(row < 0 ? at : at + used, 0, static_cast<size_t>(row < 0 ? pitch : pitch - used));
    }
    if (to.layout != Layout::kGateUp) rows.drop(first, last);
    MOEPP_CHECK(to.check(
        to.staging.send(static_cast<std::byte*>(to.data) + first * pitch, (last - first) * pitch)));
    to.control.add((last - first) * pitch);
  }
  return to.check(simt::synchronize(to.stream));
}

// int8, int4 and float8, a group at a time: the values of one stretch of rows after the other, then
// the group's words. read_block(row, b, &block) makes block b of a row, counted over all groups,
// from several threads. It returns false for a block with a NaN or an infinity.
template <class Block, class ReadBlock>
Status load_blocks(const Loading& to, const ReadBlock& read_block) {
  const WeightShape shape(to.spec);
  const int64_t stored = weight_rows(to.layout, shape.rows),
                row_bytes = weight_row_bytes(to.spec.dtype, shape.inputs);
  const int64_t at_once = rows_at_once(row_bytes);
  std::vector<uint32_t> words(static_cast<size_t>(quant_blocks(shape.inputs) * scale_rows(stored)));
  const auto word_bytes = static_cast<int64_t>(words.size() * sizeof(uint32_t));
  std::atomic<int64_t> bad_row{-1};
  auto* target = static_cast<std::byte*>(to.data);
  std::byte* staged = nullptr;
  ThreadPool pool(available_threads());
  const auto send = [&](int64_t bytes) {
    MOEPP_CHECK(to.check(to.staging.send(target, bytes)));
    target += bytes;
    to.control.add(bytes);
    return Status{};
  };
  for (int64_t group = 0; group < shape.groups; group++) {
    for (int64_t first = 0; first < stored; first += at_once) {
      MOEPP_CHECK(to.cancelled());
      const int64_t last = std::min(stored, first + at_once), bytes = (last - first) * row_bytes;
      MOEPP_CHECK(to.check(to.staging.next(bytes, &staged)));
      pool.parallel_for(last - first, [&](int64_t task, int) {
        const int64_t place = first + task;
        const int64_t row = weight_row_at(to.layout, shape.rows, place),
                      index = group * shape.rows + row;
        const auto read = [&](int64_t b, Block* block) {
          *block = {};
          return row < 0 || read_block(index, b, block);
        };
        auto* values = reinterpret_cast<unsigned char*>(staged + (place - first) * row_bytes);
        if (!pack_quantised_row<Block>(stored, place, shape.inputs, values, words.data(), read))
          bad_row.store(index);
      });
      if (bad_row.load() >= 0) return not_finite(to.spec, bad_row.load());
      MOEPP_CHECK(send(bytes));
    }
    MOEPP_CHECK(to.check(to.staging.next(word_bytes, &staged)));
    std::memcpy(staged, words.data(), static_cast<size_t>(word_bytes));
    MOEPP_CHECK(send(word_bytes));
  }
  return to.check(simt::synchronize(to.stream));
}

bool quantise(const float* values, Int8Block* block) {
  return quantise_int8(values, block);
}
bool quantise(const float* values, Int4Block* block) {
  return quantise_int4(values, block);
}

template <class Block>
Status load_quantised(const Loading& to, const StackedRows& rows) {
  return load_blocks<Block>(to, [&](int64_t row, int64_t b, Block* block) {
    const int64_t begin = b * kQuantBlock, count = std::min(kQuantBlock, rows.length() - begin);
    float values[kQuantBlock] = {};
    auto* floats = reinterpret_cast<std::byte*>(values);
    return convert_row(rows.row(row), begin, count, DType::kF32, floats) && quantise(values, block);
  });
}

// float8 as the checkpoint has it, with the scale of its block beside each row.
Status load_float8(const Loading& to, const StackedRows& rows) {
  for (const TensorRef& part : to.spec.parts) {
    if (part.dtype == DType::kF8) continue;
    return Status::error(Code::kBadWeights, part.name + " is " + dtype_name(part.dtype) +
                                                ", expected float8 for a weight of float8");
  }
  return load_blocks<Float8Block>(to, [&](int64_t row, int64_t b, Float8Block* block) {
    const PackRow from = rows.row(row);
    const int64_t begin = b * kQuantBlock, count = std::min(kQuantBlock, rows.length() - begin);
    convert_row(from, begin, count, DType::kF8, reinterpret_cast<std::byte*>(block->code));
    block->scale = from.scales[b];
    return std::none_of(block->code, block->code + count, is_e4m3_nan);
  });
}

template <class Block>
Status load_panels(const Loading& to, const std::byte* packed) {
  const WeightShape shape(to.spec);
  const int64_t group_bytes =
      packed_group_bytes(to.spec.dtype, to.layout, shape.rows, shape.inputs);
  return load_blocks<Block>(to, [&](int64_t row, int64_t b, Block* block) {
    const auto* group =
        reinterpret_cast<const unsigned char*>(packed + row / shape.rows * group_bytes);
    read_packed_block(group, to.spec.dtype, to.layout, shape.rows, shape.inputs, row % shape.rows,
                      b, block);
    return true;
  });
}

}  // namespace

int64_t weight_bytes(const WeightSpec& spec, Layout layout) {
  const WeightShape shape(spec);
  return layout == Layout::kRows
             ? elements_of(spec.shape) * dtype_size(spec.dtype)
             : weight_bytes(spec.dtype, layout, shape.groups, shape.rows, shape.inputs);
}

int64_t packed_bytes(const WeightSpec& spec, Layout layout) {
  const WeightShape shape(spec);
  return shape.groups * packed_group_bytes(spec.dtype, layout, shape.rows, shape.inputs);
}

Status load_weight(const Loading& to) {
  StackedRows rows;
  MOEPP_CHECK(StackedRows::open(to.spec, &rows));
  if (to.spec.dtype == DType::kI8) return load_quantised<Int8Block>(to, rows);
  if (to.spec.dtype == DType::kI4) return load_quantised<Int4Block>(to, rows);
  if (to.spec.dtype == DType::kF8) return load_float8(to, rows);
  return load_floats(to, rows);
}

Status load_packed(const Loading& to, const std::byte* packed) {
  return to.spec.dtype == DType::kI8 ? load_panels<Int8Block>(to, packed)
                                     : load_panels<Int4Block>(to, packed);
}

}  // namespace moepp::cuda
