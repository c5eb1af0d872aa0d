#include "rows.h"

#include <cmath>

#include "tensor.h"

namespace moepp::parallel {

namespace {

struct Header {
  int32_t rows, picks, hidden, bf16;
};

// The place of the rows, behind counts and experts of 2 bytes each.
size_t rows_at(int64_t rows, int64_t picks) {
  constexpr size_t kAlignment = 16;
  const size_t end = sizeof(Header) + 2 * static_cast<size_t>(rows + picks);
  return (end + kAlignment - 1) / kAlignment * kAlignment;
}

uint16_t to_bf16(float value) {
  return f32_to_bf16(std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value);
}

}  // namespace

Message write_rows(const Rows& rows, const float* x, int64_t hidden, bool bf16) {
  const Header header = {static_cast<int32_t>(rows.counts.size()),
                         static_cast<int32_t>(rows.experts.size()), static_cast<int32_t>(hidden),
                         bf16 ? 1 : 0};
  const size_t begin = rows_at(header.rows, header.picks),
               row_bytes = static_cast<size_t>(hidden) * (bf16 ? 2 : 4);
  Message message = Message::of_body(begin + rows.counts.size() * row_bytes);
  std::byte *body = message.body(), *at = body + sizeof header;
  std::memset(body, 0, begin);
  std::memcpy(body, &header, sizeof header);
  if (header.rows == 0) return message;
  std::memcpy(at, rows.counts.data(), 2 * rows.counts.size());
  std::memcpy(at + 2 * rows.counts.size(), rows.experts.data(), 2 * rows.experts.size());
  at = body + begin;
  for (const int32_t token : rows.tokens) {
    const float* row = x + token * hidden;
    if (bf16) {
      auto* narrow = reinterpret_cast<uint16_t*>(at);
      for (int64_t i = 0; i < hidden; i++) narrow[i] = to_bf16(row[i]);
    } else {
      std::memcpy(at, row, row_bytes);
    }
    at += row_bytes;
  }
  return message;
}

std::string read_rows(const Message& message, int64_t hidden, int64_t chosen, int64_t experts,
                      ArrivedRows* arrived) {
  Header header;
  if (message.body_bytes() < sizeof header) return "has no header";
  std::memcpy(&header, message.body(), sizeof header);
  if (header.hidden != hidden)
    return "has rows of " + std::to_string(header.hidden) + " elements, expected " +
           std::to_string(hidden);
  if (header.rows < 0 || header.picks < header.rows || header.picks > header.rows * chosen ||
      header.bf16 < 0 || header.bf16 > 1)
    return "has " + std::to_string(header.picks) + " picks of " + std::to_string(header.rows) +
           " rows, expected 1 to " + std::to_string(chosen) + " of a row";
  const size_t begin = rows_at(header.rows, header.picks),
               bytes = begin + static_cast<size_t>(header.rows) * static_cast<size_t>(hidden) *
                                   (header.bf16 != 0 ? 2 : 4);
  if (message.body_bytes() != bytes)
    return "has " + std::to_string(message.body_bytes()) + " bytes, expected " +
           std::to_string(bytes);
  const auto* counts = reinterpret_cast<const uint16_t*>(message.body() + sizeof header);
  *arrived = {header.rows,          header.picks,           counts,
              counts + header.rows, message.body() + begin, header.bf16 != 0};
  int64_t picks = 0;
  for (int64_t row = 0; row < arrived->rows; row++) {
    if (counts[row] < 1 || counts[row] > chosen)
      return "has " + std::to_string(counts[row]) + " picks of row " + std::to_string(row) +
             ", expected 1 to " + std::to_string(chosen);
    picks += counts[row];
  }
  if (picks != arrived->picks)
    return "has " + std::to_string(arrived->picks) + " picks, expected the " +
           std::to_string(picks) + " of its rows";
  for (int64_t i = 0; i < picks; i++) {
    if (arrived->experts[i] >= experts)
      return "has a pick of FFN expert " + std::to_string(arrived->experts[i]) +
             ", expected 0 to " + std::to_string(experts - 1);
  }
  return {};
}

void copy_rows(const ArrivedRows& arrived, int64_t hidden, float* to) {
  const int64_t elements = arrived.rows * hidden;
  if (elements == 0) return;
  if (!arrived.bf16) {
    std::memcpy(to, arrived.data, static_cast<size_t>(elements) * 4);
    return;
  }
  const auto* narrow = reinterpret_cast<const uint16_t*>(arrived.data);
  for (int64_t i = 0; i < elements; i++) to[i] = bf16_to_f32(narrow[i]);
}

}  // namespace moepp::parallel
