// The rows of a message of kDispatch, and their picks. It has a header, then for each row the count
// of its picks, then the experts of all picks, then the rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "communicator.h"

namespace moepp::parallel {

// To one rank.
struct Rows {
  std::vector<int32_t> tokens;            // whose rows go there
  std::vector<uint16_t> counts, experts;  // of each row its picks; of each pick its FFN expert
};

// From one rank: it points into the message.
struct ArrivedRows {
  int64_t rows = 0, picks = 0;
  const uint16_t* counts = nullptr;
  const uint16_t* experts = nullptr;
  const std::byte* data = nullptr;  // rows of `hidden` elements
  bool bf16 = false;
};

// Of the tokens in x, [T, hidden] f32. Sent as bf16, numbers below 2^-126 become 0: instructions
// that multiply bf16 count them as that before they round.
Message write_rows(const Rows& rows, const float* x, int64_t hidden, bool bf16);

// Returns the fault of a message, or "". A row has 1 to `chosen` picks of experts below `experts`.
std::string read_rows(const Message& message, int64_t hidden, int64_t chosen, int64_t experts,
                      ArrivedRows* arrived);

// To [rows, hidden] f32.
void copy_rows(const ArrivedRows& arrived, int64_t hidden, float* to);

}  // namespace moepp::parallel
