// The cases of rope_store, for each device.
#pragma once

#include <string>
#include <vector>

#include "paged_step.h"

namespace moepp::test {

struct RopeStoreCase {
  int64_t hq, hkv, d, page_size;
  std::vector<SequenceSpec> sequences;
  int64_t pairs = 0;  // rotated ones; 0: d / 2
  bool normed = false, interleaved = false;
  int64_t value_d = 0;  // 0: d

  int64_t rotated() const { return pairs > 0 ? pairs : d / 2; }
  int64_t values() const { return value_d > 0 ? value_d : d; }
  int64_t columns() const { return (hq + hkv) * d + hkv * values(); }
  std::string name() const {
    return std::to_string(hq) + "/" + std::to_string(hkv) + " x " + std::to_string(d) + ", " +
           std::to_string(rotated()) + " pairs" + (interleaved ? " interleaved" : "") +
           (normed ? ", normed" : "") + ", values " + std::to_string(values()) + ", S " +
           std::to_string(page_size);
  }
};

inline std::vector<RopeStoreCase> rope_store_cases() {
  std::vector<RopeStoreCase> cases = {{1, 1, 2, 16, {{0, 1}}},
                                      {3, 3, 20, 16, {{0, 5}, {15, 3}, {0, 0}, {31, 1}}},
                                      {4, 2, 48, 32, {{30, 40}, {0, 17}}},
                                      {16, 16, 96, 64, {{100, 1}, {63, 1}, {64, 1}}},
                                      {2, 1, 256, 16, {{7, 33}}},
                                      {32, 4, 128, 64, {{62, 3}, {5, 1}}},
                                      {4, 2, 48, 32, {{30, 9}}, 0, false, false, 32},
                                      {3, 1, 64, 16, {{30, 9}}, 5, true, true, 130}};
  // Every kind; halves and parts of odd sizes; groups of 1, 2, 3 and 8.
  const int64_t dims[] = {32, 64, 96, 128, 256, 30, 34};
  const int64_t heads[][2] = {{2, 2}, {4, 2}, {3, 1}, {8, 1}};
  int64_t number = 0;
  for (const int64_t d : dims) {
    for (int kind = 1; kind < 8; kind++, number++) {
      const auto& [hq, hkv] = heads[number % 4];
      const int64_t part = number % 3 == 0 ? 1 : number % 3 == 1 ? d / 4 : d / 2 - 1;
      cases.push_back({hq,
                       hkv,
                       d,
                       16,
                       {{number % 19, 5}, {15, 2}},
                       (kind & 1) != 0 ? part : 0,
                       (kind & 2) != 0,
                       (kind & 4) != 0});
    }
  }
  return cases;
}

}  // namespace moepp::test
